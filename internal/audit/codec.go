package audit

import "encoding/binary"

// The first byte of a leaf says what it is and in which version.
const (
	leafEntryV1 = 0x01
	leafClaimV1 = 0x81

	claimBit = 0x80
)

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// cutter takes an encoding apart from its front. Once anything did not fit it
// is bad, and all that it gives is zero. It works on a string so that the
// strings of a decoded entry share one allocation.
type cutter struct {
	rest string
	bad  bool
}

func (c *cutter) take(n int) string {
	if c.bad || n < 0 || n > len(c.rest) {
		c.bad = true
		return ""
	}
	s := c.rest[:n]
	c.rest = c.rest[n:]
	return s
}

func (c *cutter) byte() byte {
	if s := c.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (c *cutter) uint64() uint64 {
	s := c.take(8)
	if s == "" {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(s))
}

// uvarint refuses a longer spelling than is needed: one encoding a number.
func (c *cutter) uvarint() uint64 {
	var x uint64
	for shift := 0; shift < 64; shift += 7 {
		b := c.byte()
		if shift == 63 && b > 1 {
			break
		}
		x |= uint64(b&0x7f) << shift
		if b < 0x80 {
			c.bad = c.bad || b == 0 && shift > 0
			return x
		}
	}
	c.bad = true
	return 0
}

func (c *cutter) string(limit int) string {
	n := c.uvarint()
	if n > uint64(limit) {
		c.bad = true
	}
	return c.take(int(n))
}

func (c *cutter) list(items, limit int) []string {
	n := c.uvarint()
	if c.bad || n > uint64(items) {
		c.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = c.string(limit)
	}
	return list
}

func (c *cutter) hash() (h Hash) {
	copy(h[:], c.take(len(h)))
	return h
}
