package kms_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"piivault/internal/crypto"
	"piivault/internal/sim/kmsserver"
	"piivault/internal/sim/kmsserver/mototest"
)

// The adapter and the ring work on a KMS by other hands as they do on ours.
func TestMoto(t *testing.T) {
	url := mototest.Start(t)
	c := crypto.RingConfig{Local: here, Mode: crypto.Copies, Epoch: 1}
	for _, region := range []string{here, there} {
		c.Regions = append(c.Regions, crypto.Region{Name: region, KMS: client(t, region, url), KeyARN: motoKey(t, region, url)})
	}
	v := value("jane@example.com")
	_, sealer := ring(t, c, here)
	sealed := seal(t, sealer, v)
	wantMissing(t, sealed)
	for _, local := range []string{here, there} {
		r, opener := ring(t, c, local)
		if by := opens(t, opener, sealed[0].Message, v); by != local {
			t.Errorf("in %s: opened by %s", local, by)
		}
		r.Probe(t.Context())
		if states := health(r); states[here] != crypto.Up || states[there] != crypto.Up {
			t.Errorf("states %v", states)
		}
	}

	k, arn := client(t, here, url), c.Regions[0].KeyARN
	_, blob, err := k.GenerateDataKey(t.Context(), arn, map[string]string{"a": "b"})
	check(t, err)
	_, err = k.Decrypt(t.Context(), arn, blob, map[string]string{"a": "c"})
	only(t, "another context", err, crypto.ErrInvalidCiphertext)
	_, err = k.Decrypt(t.Context(), arn, blob[:len(blob)-1], map[string]string{"a": "b"})
	only(t, "a torn blob", err, crypto.ErrInvalidCiphertext)
	only(t, "no key", k.Check(t.Context(), kmsserver.ARN(here, "11111111-2222-3333-4444-555555555555")), crypto.ErrDisabled)
	id := arn[strings.LastIndexByte(arn, '/')+1:] // moto's DisableKey takes no ARN
	_, err = motoAdmin(here, url).DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})
	check(t, err)
	only(t, "disabled", k.Check(t.Context(), arn), crypto.ErrDisabled)
}

func motoAdmin(region, url string) *awskms.Client {
	return awskms.New(awskms.Options{Region: region, BaseEndpoint: &url, Credentials: static()})
}

func motoKey(t *testing.T, region, url string) string {
	t.Helper()
	out, err := motoAdmin(region, url).CreateKey(t.Context(), &awskms.CreateKeyInput{})
	check(t, err)
	return aws.ToString(out.KeyMetadata.Arn)
}
