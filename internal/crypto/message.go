package crypto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"
)

// Sentinels of messages. An error names what did not fit, never its content.
var (
	// ErrMalformed: the bytes are not a message that this package reads.
	ErrMalformed = errors.New("crypto: malformed message")
	// ErrTooLarge: the value or its place do not fit into a message.
	ErrTooLarge = errors.New("crypto: too large")
	// ErrAuthentication: the message is not what was sealed for this place, key and token.
	ErrAuthentication = errors.New("crypto: authentication failed")
)

// errSuite is the ErrMalformed of a suite that the allow-list lacks.
var errSuite = fmt.Errorf("%w: algorithm suite not allowed", ErrMalformed)

// Limits of the parser; what this package writes stays far below.
const (
	// MaxMessage is the largest message read or written, in bytes: the
	// largest value (64 KiB) and eight key copies, with room to spare.
	MaxMessage = 128 << 10
	// MaxCopies is the largest number of encrypted data keys in a message.
	MaxCopies = 8
	// maxPairs is the largest number of pairs in an encryption context; ours has three.
	maxPairs = 16
)

// Fields of the message format 2.0 (AWS Encryption SDK specification,
// data-format/message-header.md and message-body.md).
const (
	formatVersion = 2
	// suiteID is AES-256-GCM, HKDF-SHA-512, key commitment, no signature.
	suiteID = 0x0478

	contentUnframed = 1
	contentFramed   = 2
	// frameLength is larger than any content, so a message has exactly one frame: the final one.
	frameLength   = MaxMessage
	finalSequence = 0xffffffff

	messageIDSize  = 32
	commitmentSize = 32
	tagSize        = 16
	nonceSize      = 12
)

// suite is an algorithm suite that a parser admits.
type suite struct {
	id uint16
	// footer verifies what follows the body of a signed message; nil: nothing may follow.
	footer func(m *Message, signed, footer []byte) error
}

// parser reads messages of the suites on its list. The list is the only thing
// that tests change, to read AWS's own vectors.
type parser struct{ suites []suite }

// encryptedKey is one key copy as it stands in the message.
type encryptedKey struct{ provider, info, ciphertext, raw []byte }

// Message is a parsed, not yet authenticated, message. It refers to the bytes
// it was parsed from, which must not change meanwhile.
type Message struct {
	suite       suite
	raw         []byte
	header      []byte // what the header tag authenticates
	id          []byte
	context     []byte // serialized encryption context, "" when empty
	wrapping    []byte // context and key copies as serialized: equal for messages that share a data key
	keys        []encryptedKey
	framed      bool
	frameLength uint32
	commitment  []byte
	tag         []byte
	body        []byte
	footer      []byte
}

// Parse reads a message of format 2.0, suite 0x0478, and nothing else: other
// suites and versions, trailing bytes, more than MaxCopies key copies and more
// than MaxMessage bytes are ErrMalformed. Nothing is authenticated yet.
func Parse(message []byte) (*Message, error) {
	return parser{suites: []suite{{id: suiteID}}}.parse(message)
}

// DataKey is the random id of the data key (pv-key), "" in a foreign message.
func (m *Message) DataKey() string { return string(m.lookup(contextKey)) }

// Context returns the encryption context.
func (m *Message) Context() map[string]string {
	pairs := make(map[string]string, 3)
	text, at := string(m.context), 2 // one string for all, behind their count
	for k, v := range contextPairs(m.context) {
		key := at + 2
		value := key + len(k) + 2
		at = value + len(v)
		pairs[text[key:value-2]] = text[value:at]
	}
	return pairs
}

func (m *Message) lookup(key string) []byte {
	for k, v := range contextPairs(m.context) {
		if string(k) == key {
			return v
		}
	}
	return nil
}

func (p parser) parse(message []byte) (*Message, error) {
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, ErrTooLarge)
	}
	c := cursor{rest: message}
	m := &Message{raw: message}
	if c.u8() != formatVersion {
		return nil, fmt.Errorf("%w: version", ErrMalformed)
	}
	if err := p.admit(m, c.u16()); err != nil {
		return nil, err
	}
	if err := m.readHeader(&c); err != nil {
		return nil, err
	}
	if err := m.readBody(&c); err != nil {
		return nil, err
	}
	if m.suite.footer == nil && len(c.rest) > 0 {
		return nil, fmt.Errorf("%w: trailing bytes", ErrMalformed)
	}
	m.footer = c.rest
	return m, nil
}

func (p parser) admit(m *Message, id uint16) error {
	for _, s := range p.suites {
		if s.id == id {
			m.suite = s
			return nil
		}
	}
	return errSuite
}

func (m *Message) readHeader(c *cursor) error {
	m.id = c.take(messageIDSize)
	before := c.rest
	m.context = c.field16()
	if !validContext(m.context) {
		return fmt.Errorf("%w: encryption context", ErrMalformed)
	}
	if err := m.readKeys(c); err != nil {
		return err
	}
	m.wrapping = before[:len(before)-len(c.rest)]
	content := c.u8()
	m.framed = content == contentFramed
	m.frameLength = c.u32()
	m.commitment = c.take(commitmentSize)
	m.header = m.raw[:len(m.raw)-len(c.rest)]
	m.tag = c.take(tagSize)
	// A frame length is given exactly when there are frames.
	if c.short || (!m.framed && content != contentUnframed) || m.framed != (m.frameLength > 0) {
		return fmt.Errorf("%w: header", ErrMalformed)
	}
	return nil
}

func (m *Message) readKeys(c *cursor) error {
	n := int(c.u16())
	if n == 0 || n > MaxCopies {
		return fmt.Errorf("%w: number of key copies", ErrMalformed)
	}
	m.keys = make([]encryptedKey, n)
	for i := range m.keys {
		m.keys[i] = c.encryptedKey()
	}
	if c.short {
		return fmt.Errorf("%w: key copies", ErrMalformed)
	}
	return nil
}

func (m *Message) readBody(c *cursor) error {
	start := c.rest
	for next, last := uint32(1), false; !last; next++ {
		f := m.nextFrame(c, next)
		if c.short || !f.valid {
			return fmt.Errorf("%w: body", ErrMalformed)
		}
		last = f.last
	}
	m.body = start[:len(start)-len(c.rest)]
	return nil
}

// frame is one authenticated piece of the body.
type frame struct {
	label    string // Body AAD Content
	sequence uint32
	nonce    []byte
	length   int
	sealed   []byte // content and tag
	last     bool
	valid    bool
}

// nextFrame reads one frame, or the whole of an unframed body. It is valid if
// the sequence numbers count from 1, the nonce ends with its own, and so is
// unique in the message and not the header's, and no frame is longer than the
// frame length. (AWS's vectors prove that the rest of a nonce may be anything.)
func (m *Message) nextFrame(c *cursor, next uint32) frame {
	f := frame{label: labelUnframed, sequence: 1, length: int(m.frameLength), last: true}
	if m.framed {
		f.label, f.sequence, f.last = labelFrame, c.u32(), false
	}
	if f.sequence == finalSequence {
		f.label, f.sequence, f.last = labelFinalFrame, c.u32(), true
	}
	f.nonce = c.take(nonceSize)
	switch {
	case !m.framed:
		f.length = c.length64()
	case f.last:
		f.length = int(c.u32())
	}
	f.sealed = c.take(f.length + tagSize)
	f.valid = !c.short && f.sequence == next && binary.BigEndian.Uint32(f.nonce[nonceSize-4:]) == next &&
		(!m.framed || f.length <= int(m.frameLength))
	return f
}

// validContext reports a serialization that message-header.md allows: empty,
// or a positive number of UTF-8 pairs, no key twice, nothing after. Its order
// is for Open to judge: some of AWS's vectors are not sorted.
func validContext(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	c := cursor{rest: b}
	n := int(c.u16())
	var seen [maxPairs][]byte
	if n == 0 || n > maxPairs {
		return false
	}
	for i := range n {
		key, value := c.field16(), c.field16()
		if !utf8.Valid(key) || !utf8.Valid(value) {
			return false
		}
		if slices.ContainsFunc(seen[:i], func(k []byte) bool { return bytes.Equal(k, key) }) {
			return false
		}
		seen[i] = key
	}
	return !c.short && len(c.rest) == 0
}

// contextPairs walks a context that validContext has passed.
func contextPairs(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := cursor{rest: b}
		for range c.u16() {
			if !yield(c.field16(), c.field16()) {
				return
			}
		}
	}
}

// cursor reads big-endian fields; past the end it reads zeros and is short.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n < 0 || n > len(c.rest) {
		c.short = true
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) field16() []byte { return c.take(int(c.u16())) }

func (c *cursor) encryptedKey() encryptedKey {
	before := c.rest
	k := encryptedKey{provider: c.field16(), info: c.field16(), ciphertext: c.field16()}
	k.raw = before[:len(before)-len(c.rest)]
	return k
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// length64 reads a length that must fit into the rest.
func (c *cursor) length64() int {
	b := c.take(8)
	if b == nil {
		return 0
	}
	n := binary.BigEndian.Uint64(b)
	if n > uint64(len(c.rest)) {
		c.short = true
		return 0
	}
	return int(n)
}
