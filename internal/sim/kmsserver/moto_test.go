package kmsserver_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"piivault/internal/sim/kmsserver/mototest"
)

// TestAgreesWithMoto asks both servers the same, and compares what they say.
//
// Left out is what moto does otherwise than AWS's reference says; this
// package's other tests hold ours to it. Moto 5.2.5 uses keys that are disabled
// or to be deleted, answers AccessDeniedException where AWS has
// IncorrectKeyException, joins the encryption context without telling its parts
// apart, leaves KeyUsage empty unless it is given, calls replicas primaries,
// opens nothing that a multi-Region key encrypted (it cuts their ids off at 36
// characters), and has no Ed25519.
func TestAgreesWithMoto(t *testing.T) {
	ours, moto := newSide(t, newServer(t).url), newSide(t, mototest.Start(t))
	for name, ask := range questions() {
		t.Run(name, func(t *testing.T) {
			a, b := ask(t.Context(), ours), ask(t.Context(), moto)
			if !slices.Equal(a, b) {
				t.Errorf("ours: %q\nmoto: %q", a, b)
			}
			if len(a) == 0 || slices.Contains(a, "no answer") {
				t.Errorf("nothing was compared: %q", a)
			}
		})
	}
}

// side is one server, with keys of its own.
type side struct {
	here, there *kms.Client
	key, other  string // ids
	primaryID   string // of a multi-Region key with a replica
	data        []byte
	blob        []byte // of data, under key with ec("a", "b")
}

func newSide(t *testing.T, url string) side {
	t.Helper()
	s := side{here: client(url, here), there: client(url, there), data: []byte("data to be encrypted")}
	s.key, s.other = s.create(t, false), s.create(t, false)
	s.primaryID = s.create(t, true)
	if _, err := s.here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &s.primaryID, ReplicaRegion: aws.String(there)}); err != nil {
		t.Fatal(err)
	}
	out, err := s.here.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: s.data, EncryptionContext: ec("a", "b")})
	if err != nil {
		t.Fatal(err)
	}
	s.blob = out.CiphertextBlob
	return s
}

func (s side) create(t *testing.T, multiRegion bool) string {
	t.Helper()
	out, err := s.here.CreateKey(t.Context(), &kms.CreateKeyInput{
		MultiRegion: &multiRegion, Description: aws.String("a key"), KeyUsage: types.KeyUsageTypeEncryptDecrypt,
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId
}

// decrypt answers with the plaintext, or the error's code.
func (s side) decrypt(ctx context.Context, at *kms.Client, keyID string, blob []byte, context map[string]string) string {
	in := &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context}
	if keyID != "" {
		in.KeyId = &keyID
	}
	out, err := at.Decrypt(ctx, in)
	if err != nil {
		return code(err)
	}
	return string(out.Plaintext) + " " + s.nameless(*out.KeyId)
}

// nameless replaces what differs between servers: ids and account.
func (s side) nameless(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || len(parts[4]) != 12 {
		return "not an ARN: " + arn
	}
	id := map[string]string{"key/" + s.key: "key", "key/" + s.other: "other", "key/" + s.primaryID: "primary"}[parts[5]]
	return strings.Join(append(parts[:4:4], id), ":")
}

func (s side) metadata(m *types.KeyMetadata, err error) []string {
	if err != nil {
		return []string{code(err)}
	}
	said := []string{
		s.nameless(*m.Arn), fmt.Sprint(strings.HasSuffix(*m.Arn, "/"+*m.KeyId), len(*m.AWSAccountId)), string(m.KeyState), string(m.KeyUsage),
		string(m.KeySpec), string(m.CustomerMasterKeySpec), string(m.KeyManager), string(m.Origin), fmt.Sprint(m.EncryptionAlgorithms), //nolint:staticcheck // the old name is answered too
		fmt.Sprint(m.SigningAlgorithms, m.Enabled, *m.MultiRegion, m.DeletionDate != nil, m.CreationDate != nil), *m.Description,
	}
	if family := m.MultiRegionConfiguration; family != nil {
		said = append(said, s.nameless(*family.PrimaryKey.Arn), *family.PrimaryKey.Region)
		for _, r := range family.ReplicaKeys {
			said = append(said, s.nameless(*r.Arn), *r.Region)
		}
	}
	return said
}

func (s side) describe(ctx context.Context, at *kms.Client, keyID string) []string {
	out, err := at.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &keyID})
	if err != nil {
		return []string{code(err)}
	}
	return s.metadata(out.KeyMetadata, nil)
}

type question func(context.Context, side) []string

func questions() map[string]question {
	const nobody = "11111111-2222-3333-4444-555555555555"
	return map[string]question{
		"describe": func(ctx context.Context, s side) (said []string) {
			return slices.Concat(s.describe(ctx, s.here, s.key), s.describe(ctx, s.here, s.primaryID))
		},
		"describe by ARN": func(ctx context.Context, s side) []string {
			out, err := s.here.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &s.key})
			if err != nil {
				return []string{code(err)}
			}
			return s.describe(ctx, s.here, *out.KeyMetadata.Arn)
		},
		"keys that are not there": func(ctx context.Context, s side) (said []string) {
			for _, id := range []string{nobody, "nobody", "alias/nobody", "arn:aws:kms:" + here + ":123456789012:key/" + nobody} {
				_, generate := s.here.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
				_, encrypt := s.here.Encrypt(ctx, &kms.EncryptInput{KeyId: &id, Plaintext: s.data})
				said = append(said, code(generate), code(encrypt), s.decrypt(ctx, s.here, id, s.blob, ec("a", "b")))
				said = append(said, s.describe(ctx, s.here, id)...)
			}
			return append(said, s.describe(ctx, s.there, s.key)...)
		},
		"data keys": func(ctx context.Context, s side) (said []string) {
			for _, in := range []kms.GenerateDataKeyInput{
				{KeySpec: types.DataKeySpecAes256},
				{KeySpec: types.DataKeySpecAes128},
				{NumberOfBytes: aws.Int32(1)},
				{NumberOfBytes: aws.Int32(1024)},
				{NumberOfBytes: aws.Int32(1025)},
				{KeySpec: "AES_512"},
				{},
				{KeySpec: types.DataKeySpecAes256, NumberOfBytes: aws.Int32(32)},
			} {
				in.KeyId, in.EncryptionContext = &s.key, ec("a", "b")
				out, err := s.here.GenerateDataKey(ctx, &in)
				if err != nil {
					said = append(said, code(err))
					continue
				}
				same := s.decrypt(ctx, s.here, s.key, out.CiphertextBlob, ec("a", "b")) == string(out.Plaintext)+" "+s.nameless(*out.KeyId)
				said = append(said, fmt.Sprint(len(out.Plaintext), s.nameless(*out.KeyId), same))
			}
			return said
		},
		"sizes": func(ctx context.Context, s side) (said []string) {
			for _, n := range []int{0, 1, 32, 4096, 4097} {
				out, err := s.here.Encrypt(ctx, &kms.EncryptInput{KeyId: &s.key, Plaintext: bytes.Repeat([]byte("x"), n)})
				if err != nil {
					said = append(said, code(err))
					continue
				}
				said = append(said, s.decrypt(ctx, s.here, s.key, out.CiphertextBlob, nil))
			}
			return said
		},
		"decrypt": func(ctx context.Context, s side) []string {
			return []string{
				s.decrypt(ctx, s.here, s.key, s.blob, ec("a", "b")),
				s.decrypt(ctx, s.here, "", s.blob, ec("a", "b")),
				s.decrypt(ctx, s.there, "", s.blob, ec("a", "b")), // a region without the key
			}
		},
		"contexts": func(ctx context.Context, s side) (said []string) {
			for _, context := range []map[string]string{nil, {}, ec("a", "c"), ec("b", "a"), ec("a", "b", "c", "d"), ec("A", "b"), ec("a", "b")} {
				said = append(said, s.decrypt(ctx, s.here, s.key, s.blob, context))
			}
			return said
		},
		"ciphertexts": func(ctx context.Context, s side) (said []string) {
			flipped := bytes.Clone(s.blob)
			flipped[len(flipped)-1] ^= 1
			for _, blob := range [][]byte{flipped, s.blob[:len(s.blob)-1], append(bytes.Clone(s.blob), 0), {0}, bytes.Repeat([]byte{0xff}, 200)} {
				said = append(said, s.decrypt(ctx, s.here, s.key, blob, ec("a", "b")))
			}
			return said
		},
		"replicas": func(ctx context.Context, s side) (said []string) {
			for _, at := range []*kms.Client{s.here, s.there} {
				out, err := at.Encrypt(ctx, &kms.EncryptInput{KeyId: &s.primaryID, Plaintext: s.data})
				if err != nil {
					return []string{code(err)}
				}
				said = append(said, s.nameless(*out.KeyId))
			}
			return append(said, s.describe(ctx, s.there, s.primaryID)[:10]...)
		},
		"states": func(ctx context.Context, s side) (said []string) {
			id := aws.String(s.other)
			_, err := s.here.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
			said = append(append(said, code(err)), s.describe(ctx, s.here, *id)...)
			_, err = s.here.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
			said = append(append(said, code(err)), s.describe(ctx, s.here, *id)...)
			_, err = s.here.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)})
			said = append(append(said, code(err)), s.describe(ctx, s.here, *id)...)
			_, err = s.here.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
			said = append(append(said, code(err)), s.describe(ctx, s.here, *id)...)
			_, err = s.here.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
			return append(append(said, code(err)), s.describe(ctx, s.here, *id)...)
		},
		"states of no key": func(ctx context.Context, s side) []string {
			id := aws.String(nobody)
			_, disable := s.here.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
			_, enable := s.here.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
			_, schedule := s.here.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id})
			_, cancel := s.here.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
			return []string{code(disable), code(enable), code(schedule), code(cancel)}
		},
	}
}
