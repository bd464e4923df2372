package crypto

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// awsVector is one of AWS's "Message Format V2 Test Vectors".
type awsVector struct {
	Ciphertext []byte            `json:"ciphertext"`
	DataKey    []byte            `json:"decrypted-dek"`
	Commitment []byte            `json:"commitment"`
	Context    map[string]string `json:"encryption-context"`
	Frames     []string          `json:"plaintext-frames"`
	Opens      bool              `json:"status"`
	Exception  string            `json:"exception"`
	Comment    string            `json:"comment"`
}

func (v awsVector) signed() bool { return v.Context["aws-crypto-public-key"] != "" }

func readAWSVectors(t *testing.T) []awsVector {
	t.Helper()
	raw, err := os.ReadFile("testdata/commitment-test-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []awsVector `json:"tests"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Tests) != 46 {
		t.Fatalf("%d vectors, not 46", len(file.Tests))
	}
	return file.Tests
}

// widened admits, besides the production suite, the one with a signature.
func widened() parser {
	return parser{suites: []suite{{id: suiteID}, {id: 0x0578, footer: verifyP384}}}
}

// verifyP384 is the footer of suite 0x0578: ECDSA with P-384 and SHA-384
// (data-format/message-footer.md).
func verifyP384(m *Message, signed, footer []byte) error {
	c := cursor{rest: footer}
	signature := c.field16()
	if c.short || len(c.rest) > 0 {
		return ErrMalformed
	}
	point, err := base64.StdEncoding.DecodeString(string(m.lookup("aws-crypto-public-key")))
	if err != nil {
		return ErrMalformed
	}
	x, y := elliptic.UnmarshalCompressed(elliptic.P384(), point)
	if x == nil {
		return ErrMalformed
	}
	uncompressed := make([]byte, 97)
	uncompressed[0] = 4
	x.FillBytes(uncompressed[1:49])
	y.FillBytes(uncompressed[49:])
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), uncompressed)
	digest := sha512.Sum384(signed)
	if err != nil || !ecdsa.VerifyASN1(public, digest[:], signature) {
		return ErrAuthentication
	}
	return nil
}

func (v awsVector) open(t *testing.T, p parser) (string, error) {
	t.Helper()
	m, err := p.parse(v.Ciphertext)
	if err != nil {
		return "", err
	}
	content, err := m.open(goldenKey(t, v.DataKey))
	return string(content), err
}

// All 46 of AWS's outcomes with the suite list widened: 41 open, 5 have a
// commitment that is not their key's.
func TestAWSVectors(t *testing.T) {
	opened, refused := 0, 0
	for _, v := range readAWSVectors(t) {
		content, err := v.open(t, widened())
		switch {
		case v.Opens && err == nil && content == strings.Join(v.Frames, ""):
			opened++
		case !v.Opens && errors.Is(err, errCommitment) && v.Exception == "EXCEPTION: Invalid commitment":
			refused++
		default:
			t.Errorf("%s: %v", v.Comment, err)
		}
	}
	if opened != 41 || refused != 5 {
		t.Errorf("%d opened and %d refused, not 41 and 5", opened, refused)
	}
}

// The production list opens what has no signature, framed or not; the rest is
// refused for its suite, and the wrong commitments among it for theirs.
func TestAWSVectorsOnTheProductionList(t *testing.T) {
	opened, suites, commitments := 0, 0, 0
	for _, v := range readAWSVectors(t) {
		_, err := Parse(v.Ciphertext)
		if err == nil {
			_, err = v.open(t, parser{suites: []suite{{id: suiteID}}})
		}
		switch {
		case v.signed() && errors.Is(err, errSuite):
			suites++
		case !v.signed() && v.Opens && err == nil:
			opened++
		case !v.signed() && !v.Opens && errors.Is(err, errCommitment):
			commitments++
		default:
			t.Errorf("%s: %v", v.Comment, err)
		}
	}
	t.Logf("%d open, %d are refused for their suite, %d for their commitment", opened, suites, commitments)
	if opened != 20 || suites != 23 || commitments != 3 {
		t.Error("not 20, 23 and 3")
	}
}

// G8: no bit of AWS's messages may flip.
func TestAWSVectorsEveryByteCounts(t *testing.T) {
	for _, v := range readAWSVectors(t) {
		if !v.Opens || len(v.Ciphertext) > 1000 {
			continue
		}
		for i := range v.Ciphertext {
			v.Ciphertext[i] ^= 1 << (i % 8)
			if _, err := v.open(t, widened()); err == nil {
				t.Fatalf("%s: byte %d does not count", v.Comment, i)
			}
			v.Ciphertext[i] ^= 1 << (i % 8)
		}
	}
}
