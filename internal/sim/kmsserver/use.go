package kmsserver

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
)

// Limits of the API reference.
const (
	maxPlaintext = 4096
	maxDataKey   = 1024
)

func (s *Server) generateDataKey(r *region, in struct {
	KeyID   string            `json:"KeyId"`
	Spec    string            `json:"KeySpec"`
	Bytes   *int              `json:"NumberOfBytes"`
	Context map[string]string `json:"EncryptionContext"`
},
) (any, error) {
	arn, _, err := s.use(r, in.KeyID, usageEncrypt)
	if err != nil {
		return nil, err
	}
	var n int
	switch {
	case (in.Spec == "") == (in.Bytes == nil):
		return nil, refused(validationCode, "Please specify either number of bytes or key spec.")
	case in.Bytes != nil:
		n = *in.Bytes
	case in.Spec == "AES_256":
		n = 32
	case in.Spec == "AES_128":
		n = 16
	}
	if n < 1 || n > maxDataKey {
		return nil, refused(validationCode, "KeySpec must be AES_256 or AES_128, NumberOfBytes 1 to 1024.")
	}
	plaintext := make([]byte, n)
	if _, err := io.ReadFull(s.config.Random, plaintext); err != nil {
		return nil, fmt.Errorf("kmsserver: draw a data key: %w", err)
	}
	blob, err := r.seal(arn, plaintext, in.Context)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "CiphertextBlob": blob, "Plaintext": plaintext}, nil
}

func (s *Server) encrypt(r *region, in struct {
	KeyID     string `json:"KeyId"`
	Plaintext []byte
	Context   map[string]string `json:"EncryptionContext"`
},
) (any, error) {
	arn, _, err := s.use(r, in.KeyID, usageEncrypt)
	if err != nil {
		return nil, err
	}
	if len(in.Plaintext) == 0 || len(in.Plaintext) > maxPlaintext {
		return nil, refused(validationCode, "Plaintext must be 1 to 4096 bytes long.")
	}
	blob, err := r.seal(arn, in.Plaintext, in.Context)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "CiphertextBlob": blob, "EncryptionAlgorithm": Symmetric}, nil
}

func (s *Server) decrypt(r *region, in struct {
	KeyID   string            `json:"KeyId"`
	Blob    []byte            `json:"CiphertextBlob"`
	Context map[string]string `json:"EncryptionContext"`
},
) (any, error) {
	maker := r.blobKey(in.Blob)
	if in.KeyID == "" {
		in.KeyID = maker
		if _, _, err := s.find(r, maker); err != nil {
			return nil, refused("AccessDeniedException", "The ciphertext refers to a key that does not exist here.")
		}
	}
	arn, _, err := s.use(r, in.KeyID, usageEncrypt)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.find(r, maker); err == nil && maker != arn {
		return nil, refused("IncorrectKeyException", "The key ID in the request does not identify a key that can perform this operation.")
	}
	plaintext, err := r.open(arn, in.Blob, in.Context)
	if errors.Is(err, errBlob) {
		return nil, refused("InvalidCiphertextException", "")
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "Plaintext": plaintext, "EncryptionAlgorithm": Symmetric}, nil
}

func (s *Server) sign(r *region, in struct {
	KeyID     string `json:"KeyId"`
	Message   []byte
	Type      string `json:"MessageType"`
	Algorithm string `json:"SigningAlgorithm"`
},
) (any, error) {
	arn, k, err := s.use(r, in.KeyID, usageSign)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Algorithm != signAlgorithm:
		return nil, refused("InvalidKeyUsageException", "SigningAlgorithm must be "+signAlgorithm+".")
	case in.Type != "" && in.Type != "RAW":
		return nil, refused(validationCode, signAlgorithm+" signs messages of MessageType RAW.")
	case len(in.Message) == 0 || len(in.Message) > maxPlaintext:
		return nil, refused(validationCode, "Message must be 1 to 4096 bytes long.")
	}
	private, err := s.private(r, k)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "Signature": ed25519.Sign(private, in.Message), "SigningAlgorithm": in.Algorithm}, nil
}

func (s *Server) getPublicKey(r *region, in keyRequest) (any, error) {
	arn, k, err := s.use(r, in.KeyID, usageSign)
	if err != nil {
		return nil, err
	}
	private, err := s.private(r, k)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("kmsserver: encode the public key: %w", err)
	}
	return map[string]any{
		"KeyId": arn, "PublicKey": der, "KeySpec": Ed25519, "CustomerMasterKeySpec": Ed25519,
		"KeyUsage": usageSign, "SigningAlgorithms": []string{signAlgorithm},
	}, nil
}
