package kmsserver_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/go-json-experiment/json"

	"piivault/internal/sim/kmsserver"
)

// golden is testdata/golden.json: a server's files, and what was made with
// their keys. `vault dev-kms --data` and the records sealed under it outlive a
// version of this program.
type golden struct {
	Files     map[string]string `json:"files"`
	Plaintext string            `json:"plaintext"`
	Context   map[string]string `json:"context"`
	Blobs     map[string][]byte `json:"blobs"` // by the ARN that opens them
	Signer    string            `json:"signer"`
	Public    []byte            `json:"public"`
}

func openGolden(tb testing.TB) (golden, string) {
	tb.Helper()
	var g golden
	text, err := os.ReadFile("testdata/golden.json")
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	for name, content := range g.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return g, dir
}

func TestGolden(t *testing.T) {
	g, dir := openGolden(t)
	s := startServer(t, dir)
	for arn, blob := range g.Blobs {
		at := client(s.url, strings.Split(arn, ":")[3])
		open := func(blob []byte) (*kms.DecryptOutput, error) {
			return at.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: g.Context})
		}
		out, err := open(blob)
		check(t, err)
		if string(out.Plaintext) != g.Plaintext {
			t.Errorf("%s: %q", arn, out.Plaintext)
		}
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 0x10
			if _, err := open(bad); code(err) != "InvalidCiphertextException" {
				t.Errorf("%s: byte %d changed: %v", arn, i, err)
			}
		}
	}
	if public := publicKey(t, client(s.url, here), &g.Signer); !bytes.Equal(public, g.Public) {
		t.Errorf("the public key is now %x", public)
	}
	_, err := client(s.url, here).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &g.Signer}) // writes the state anew
	check(t, err)
	check(t, s.SetEnabled(g.Signer, true))
	written, err := os.ReadFile(filepath.Join(dir, here, "state.json"))
	check(t, err)
	if string(written) != g.Files[here+"/state.json"] {
		t.Errorf("the state is now %s", written)
	}
}

// FuzzRequest: whatever is sent, the answer has AWS's shape and blames no fault of ours.
func FuzzRequest(f *testing.F) {
	g, dir := openGolden(f)
	server, err := kmsserver.Open(kmsserver.Config{Dir: dir, Regions: []string{here, there}})
	if err != nil {
		f.Fatal(err)
	}
	good := "AWS4-HMAC-SHA256 Credential=AKID/20260101/" + here + "/kms/aws4_request, SignedHeaders=host, Signature=00"
	for arn, blob := range g.Blobs {
		body, err := json.Marshal(map[string]any{"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": g.Context})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good, "Decrypt", body)
		f.Add(good, "DescribeKey", body)
		f.Add(good, "Sign", body)
	}
	f.Add("AWS4-HMAC-SHA256 Credential=////", "Decrypt", []byte("{}"))
	f.Add(good, "Decrypt", []byte(`{"CiphertextBlob":"AEQB"}`))
	f.Fuzz(func(t *testing.T, authorization, operation string, body []byte) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		request.Header.Set("Authorization", authorization)
		request.Header.Set("X-Amz-Target", "TrentService."+operation)
		recorder := httptest.NewRecorder()
		server.ServeHTTP(recorder, request)
		var answer struct {
			Type *string `json:"__type"`
		}
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("no JSON: %v", err)
		}
		if (recorder.Code == http.StatusOK) != (answer.Type == nil) || recorder.Code >= 500 {
			t.Errorf("%d %s", recorder.Code, aws.ToString(answer.Type))
		}
	})
}
