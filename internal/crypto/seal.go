package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"piivault/internal/secret"
)

// Labels of the message format: HKDF info (framework/algorithm-suites.md) and
// Body AAD Content (data-format/message-body-aad.md).
const (
	labelDerive     = "DERIVEKEY"
	labelCommit     = "COMMITKEY"
	labelFrame      = "AWSKMSEncryptionClient Frame"
	labelFinalFrame = "AWSKMSEncryptionClient Final Frame"
	labelUnframed   = "AWSKMSEncryptionClient Single Block"
)

// errCommitment is the ErrAuthentication of a key that the message does not commit to.
var errCommitment = fmt.Errorf("%w: key commitment", ErrAuthentication)

// messageKey derives the message's AEAD and its commitment from the data key:
// HKDF-SHA-512, salt = message id (framework/algorithm-suites.md, commitment suites).
func messageKey(key secret.Key, id []byte, suite uint16) (cipher.AEAD, [commitmentSize]byte, error) {
	prk := extract512(id, key.Bytes())
	defer clear(prk[:])
	info := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(labelDerive)), suite)
	derived := expand512(prk[:], append(info, labelDerive...))
	defer clear(derived[:])
	aead, err := newGCM(derived[:])
	return aead, expand512(prk[:], []byte(labelCommit)), err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("crypto: aes: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("crypto: gcm: %w", err)
	}
	return aead, nil
}

// headerNonce seals the header alone. A second header under the same derived
// key would give GCM's authentication key away, so there is no way to make
// one: a draft draws its own message id, and seals once (design §4).
func headerNonce() (n [nonceSize]byte) { return n }

func frameNonce(sequence uint32) (n [nonceSize]byte) {
	binary.BigEndian.PutUint32(n[nonceSize-4:], sequence)
	return n
}

// frameAAD is the AAD of one frame (data-format/message-body-aad.md).
func frameAAD(dst, id []byte, f frame) []byte {
	dst = append(append(dst, id...), f.label...)
	dst = binary.BigEndian.AppendUint32(dst, f.sequence)
	return binary.BigEndian.AppendUint64(dst, uint64(f.length))
}

// wrapping is a data key's context and copies as a message carries them.
type wrapping struct {
	context []byte // serialized pairs
	keys    []encryptedKey
}

func (w wrapping) size() int {
	n := 2 + len(w.context) + 2
	for _, k := range w.keys {
		n += len(k.raw)
	}
	return n
}

func (w wrapping) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(w.context)))
	dst = append(dst, w.context...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(w.keys)))
	for _, k := range w.keys {
		dst = append(dst, k.raw...)
	}
	return dst
}

// Sizes of what surrounds the wrapping and the content.
const (
	beforeWrapping = 1 + 2 + messageIDSize
	afterWrapping  = 1 + 4 + commitmentSize + tagSize
	beforeContent  = 4 + 4 + nonceSize + 4
)

// draft is a message under construction: its header is fixed, its content is
// still plaintext, filled in by the caller.
type draft struct {
	buf     []byte
	header  int // length of the header without its tag
	content int // offset
	aead    cipher.AEAD
	// What seal hands to the AEAD, here rather than on the heap one by one.
	nonces [2][nonceSize]byte
	aad    [96]byte
}

// newDraft starts a message under a fresh message id.
func newDraft(key secret.Key, w wrapping, contentSize int, random io.Reader) (*draft, error) {
	header := beforeWrapping + w.size() + afterWrapping - tagSize
	content := header + tagSize + beforeContent
	if contentSize > frameLength || content+contentSize+tagSize > MaxMessage {
		return nil, ErrTooLarge
	}
	buf := make([]byte, 0, content+contentSize+tagSize)
	buf = binary.BigEndian.AppendUint16(append(buf, formatVersion), suiteID)
	id := buf[len(buf) : len(buf)+messageIDSize]
	if _, err := io.ReadFull(random, id); err != nil {
		return nil, fmt.Errorf("crypto: draw a message id: %w", err)
	}
	aead, commitment, err := messageKey(key, id, suiteID)
	if err != nil {
		return nil, err
	}
	buf = append(w.append(buf[:beforeWrapping]), contentFramed)
	buf = binary.BigEndian.AppendUint32(buf, frameLength)
	buf = append(buf, commitment[:]...)
	return &draft{buf: buf[:content+contentSize], header: header, content: content, aead: aead}, nil
}

// plaintext is the content to fill in, in place.
func (d *draft) plaintext() []byte { return d.buf[d.content:] }

// wipe clears a content that will not be sealed.
func (d *draft) wipe() { clear(d.plaintext()) }

// seal turns the draft into the message: the header's tag, then the final and
// only frame, encrypted in place. The draft is used up.
func (d *draft) seal() []byte {
	d.nonces = [...][nonceSize]byte{headerNonce(), frameNonce(1)}
	nonce, first := d.nonces[0][:], d.nonces[1][:]
	header, content := d.buf[:d.header], d.plaintext()
	f := frame{label: labelFinalFrame, sequence: 1, length: len(content)}
	d.aead.Seal(header, nonce, nil, header)
	head := d.buf[d.header+tagSize : d.content]
	binary.BigEndian.PutUint32(head, finalSequence)
	binary.BigEndian.PutUint32(head[4:], f.sequence)
	copy(head[8:], first)
	binary.BigEndian.PutUint32(head[8+nonceSize:], uint32(f.length))
	d.aead.Seal(content[:0], first, content, frameAAD(d.aad[:0], header[3:beforeWrapping], f))
	d.aead = nil
	return d.buf[:len(d.buf)+tagSize]
}

// open authenticates the whole message under the data key and returns its content.
func (m *Message) open(key secret.Key) ([]byte, error) {
	aead, commitment, err := messageKey(key, m.id, m.suite.id)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment[:], m.commitment) != 1 {
		return nil, errCommitment
	}
	nonce := headerNonce()
	if _, err := aead.Open(nil, nonce[:], m.tag, m.header); err != nil {
		return nil, fmt.Errorf("%w: header", ErrAuthentication)
	}
	content, err := m.openBody(aead)
	if err == nil && m.suite.footer != nil {
		err = m.suite.footer(m, m.raw[:len(m.raw)-len(m.footer)], m.footer)
	}
	if err != nil {
		clear(content)
		return nil, err
	}
	return content, nil
}

func (m *Message) openBody(aead cipher.AEAD) ([]byte, error) {
	content := make([]byte, 0, len(m.body))
	aad := make([]byte, 0, 96)
	c := cursor{rest: m.body}
	for next, last := uint32(1), false; !last; next++ {
		f := m.nextFrame(&c, next)
		aad = frameAAD(aad[:0], m.id, f)
		opened, err := aead.Open(content, f.nonce, f.sealed, aad)
		if err != nil {
			clear(content)
			return nil, fmt.Errorf("%w: body", ErrAuthentication)
		}
		content, last = opened, f.last
	}
	return content, nil
}

// newEncryptedKey serializes a key copy.
func newEncryptedKey(info string, ciphertext []byte) (encryptedKey, error) {
	if len(info) > maxField || len(ciphertext) == 0 || len(ciphertext) > maxField {
		return encryptedKey{}, errors.New("crypto: a key copy has an impossible size")
	}
	raw := make([]byte, 0, 6+len(providerID)+len(info)+len(ciphertext))
	raw = appendField16(raw, providerID)
	raw = appendField16(raw, info)
	raw = binary.BigEndian.AppendUint16(raw, uint16(len(ciphertext)))
	raw = append(raw, ciphertext...)
	c := cursor{rest: raw}
	return c.encryptedKey(), nil
}

// maxField is the largest length that a 16-bit prefix can hold.
const maxField = 1<<16 - 1

// appendField16 appends s behind its length; the caller has checked maxField.
func appendField16(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
