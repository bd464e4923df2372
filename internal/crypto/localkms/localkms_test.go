package localkms_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/crypto"
	"piivault/internal/crypto/kmstest"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

func create(t *testing.T, region string) *localkms.KMS {
	t.Helper()
	k, err := localkms.Create(localkms.Config{Path: filepath.Join(t.TempDir(), "deep", "keys.json"), Region: region})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestConformance(t *testing.T) {
	kmstest.Run(t, func(t *testing.T) kmstest.Fixture {
		t.Helper()
		k, replica := create(t, "eu-west-1"), create(t, "us-east-1")
		primary := must(k.CreateKey(true))(t)
		return kmstest.Fixture{
			KMS: k, Key: k.Keys()[0], Other: must(k.CreateKey(false))(t), Primary: primary,
			Replica: must(replica.Replicate(k, primary))(t), ReplicaKMS: replica,
			Disable:       func(keyARN string) { must(0, k.SetDisabled(keyARN, true))(t) },
			Unreachable:   func() { k.SetFault(localkms.Down, 0) },
			Deny:          func() { k.SetFault(localkms.Denied, 0) },
			Slow:          func(d time.Duration) { k.SetFault(localkms.Slow, d) },
			UnknownKeyARN: "arn:aws:kms:eu-west-1:000000000000:key/nobody",
		}
	})
}

func TestReopenKeepsKeysAndSwitches(t *testing.T) {
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1"}
	k := must(localkms.Create(c))(t)
	first, second := k.Keys()[0], must(k.CreateKey(false))(t)
	key, blob, err := k.GenerateDataKey(t.Context(), first, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	must(0, k.SetDisabled(second, true))(t)

	k = must(localkms.Open(c))(t)
	opened := must(k.Decrypt(t.Context(), first, blob, map[string]string{"a": "b"}))(t)
	if !opened.Equal(key) {
		t.Error("another key came out")
	}
	if err := k.Check(t.Context(), second); !errors.Is(err, crypto.ErrDisabled) {
		t.Errorf("the disabled key: %v", err)
	}
	must(0, k.SetDisabled(second, false))(t)
	if err := must(localkms.Open(c))(t).Check(t.Context(), second); err != nil {
		t.Errorf("the key enabled again: %v", err)
	}
	if _, err := localkms.Create(c); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating over a key file: %v", err)
	}
	info := must(os.Stat(c.Path))(t)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
	if left := must(os.ReadDir(filepath.Dir(c.Path)))(t); len(left) != 1 {
		t.Errorf("%d files, want the key file alone", len(left))
	}
}

func TestChosenIDs(t *testing.T) {
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1", FirstKey: "first"}
	k := must(localkms.Create(c))(t)
	if got := must(k.CreateKeyAs("mrk-chosen"))(t); got != "arn:aws:kms:eu-west-1:000000000000:key/mrk-chosen" {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{"", "first", "a/b", "a:b", strings.Repeat("x", 256)} {
		if _, err := k.CreateKeyAs(bad); err == nil {
			t.Errorf("%q is an id", bad)
		}
	}
	if got := must(localkms.Open(c))(t).Keys(); len(got) != 2 || got[0] != "arn:aws:kms:eu-west-1:000000000000:key/first" {
		t.Errorf("kept %v", got)
	}
	c.Path += "2"
	c.FirstKey = "a/b"
	if _, err := localkms.Create(c); err == nil {
		t.Error("created with what is no id")
	}
}

func TestUnwritableFileChangesNothing(t *testing.T) {
	dir := t.TempDir()
	c := localkms.Config{Path: filepath.Join(dir, "sub", "keys.json"), Region: "eu-west-1"}
	k := must(localkms.Create(c))(t)
	must(0, os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "gone")))(t)
	if _, err := k.CreateKey(false); err == nil {
		t.Error("a key was made without a file")
	}
	if err := k.SetDisabled(k.Keys()[0], true); err == nil {
		t.Error("a key was disabled without a file")
	}
	if len(k.Keys()) != 1 || k.Check(t.Context(), k.Keys()[0]) != nil {
		t.Error("what the file does not say is in force")
	}
}

func TestOpenRefusesWhatItDidNotWrite(t *testing.T) {
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1"}
	must(localkms.Create(c))(t)
	good := must(os.ReadFile(c.Path))(t)
	for name, bad := range map[string][]byte{
		"empty": nil, "torn": good[:len(good)/2], "not JSON": []byte("keys"), "twice": append(bytes.Clone(good), good...),
		"version":        bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"unknown member": bytes.Replace(good, []byte(`"version"`), []byte(`"x": 1, "version"`), 1),
		"disabled":       bytes.Replace(good, []byte(`false`), []byte(`true`), 1),
		"checksum":       bytes.Replace(good, []byte(`"checksum": "`), []byte(`"checksum": "A`), 1),
	} {
		must(0, os.WriteFile(c.Path, bad, 0o600))(t)
		if _, err := localkms.Open(c); !errors.Is(err, localkms.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(0, os.WriteFile(c.Path, good, 0o600))(t)
	other := c
	other.Region = "us-east-1"
	if _, err := localkms.Open(other); !errors.Is(err, localkms.ErrCorrupt) {
		t.Errorf("another region's file: %v", err)
	}
	must(0, os.Chmod(c.Path, 0o640))(t)
	if _, err := localkms.Open(c); err == nil || errors.Is(err, localkms.ErrCorrupt) {
		t.Errorf("a file that others can read: %v", err)
	}
	must(0, os.Remove(c.Path))(t)
	if _, err := localkms.Open(c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Every byte of the file counts: one that is changed is refused, or the file means the same.
func TestEveryChangedByteOfTheFile(t *testing.T) {
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1"}
	k := must(localkms.Create(c))(t)
	arn := k.Keys()[0]
	key, blob, err := k.GenerateDataKey(t.Context(), arn, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := must(os.ReadFile(c.Path))(t)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		must(0, os.WriteFile(c.Path, bad, 0o600))(t)
		k, err := localkms.Open(c)
		if err != nil {
			if !errors.Is(err, localkms.ErrCorrupt) {
				t.Fatal(err)
			}
			continue
		}
		if opened, err := k.Decrypt(t.Context(), arn, blob, nil); err != nil || !opened.Equal(key) {
			t.Errorf("byte %d changed the key unnoticed", i)
		}
	}
}

func TestErrorsShowNoKey(t *testing.T) {
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1"}
	must(localkms.Create(c))(t)
	good := string(must(os.ReadFile(c.Path))(t))
	_, rest, _ := strings.Cut(good, `"key": "`)
	material := rest[:43]
	for _, bad := range []string{strings.Replace(good, `"key": "`, `"key": 1, "k": "`, 1), strings.Replace(good, material, material+"!", 1)} {
		must(0, os.WriteFile(c.Path, []byte(bad), 0o600))(t)
		if _, err := localkms.Open(c); err == nil || strings.Contains(err.Error(), material[:8]) {
			t.Errorf("got %v", err)
		}
	}
}

// golden is testdata/golden.json: a key file and a blob under its key.
type golden struct {
	File    string            `json:"file"`
	ARN     string            `json:"arn"`
	Context map[string]string `json:"context"`
	Blob    string            `json:"blob"` // hex
	Key     string            `json:"key"`  // hex
	Bad     map[string]string `json:"bad"`  // hex blobs that must not open
}

func TestGolden(t *testing.T) {
	var g golden
	if err := json.Unmarshal(must(os.ReadFile("testdata/golden.json"))(t), &g); err != nil {
		t.Fatal(err)
	}
	c := localkms.Config{Path: filepath.Join(t.TempDir(), "keys.json"), Region: "eu-west-1", Random: new(counter)}
	must(0, os.WriteFile(c.Path, []byte(g.File), 0o600))(t)
	k := must(localkms.Open(c))(t)
	key := must(secret.NewKey(must(hex.DecodeString(g.Key))(t)))(t)
	opened := must(k.Decrypt(t.Context(), g.ARN, must(hex.DecodeString(g.Blob))(t), g.Context))(t)
	if !opened.Equal(key) {
		t.Error("another key came out")
	}
	if blob := must(k.Encrypt(t.Context(), g.ARN, key, g.Context))(t); hex.EncodeToString(blob) != g.Blob {
		t.Errorf("the blob is now %x", blob)
	}
	for name, bad := range g.Bad {
		if _, err := k.Decrypt(t.Context(), g.ARN, must(hex.DecodeString(bad))(t), g.Context); !errors.Is(err, crypto.ErrInvalidCiphertext) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(0, k.SetDisabled(g.ARN, false))(t) // writes the file anew
	if written := string(must(os.ReadFile(c.Path))(t)); written != g.File {
		t.Errorf("the file is now\n%s", written)
	}
}

// counter is a source of bytes 0, 1, 2, ...
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}
