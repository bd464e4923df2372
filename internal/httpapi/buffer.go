package httpapi

import (
	"bytes"
	"sync"
)

// Buffers larger than this are left to the garbage collector.
const maxPooled = 256 << 10

// buffer holds a body. What an answer grows out of is not cleared, so it is
// made large enough from the start; a request, whose size need not be told, is
// read by fill, which clears what it grows out of.
type buffer struct{ bytes.Buffer }

// enlarge doubles the buffer.
func (b *buffer) enlarge() {
	old := b.Bytes()
	larger := bytes.NewBuffer(make([]byte, 0, 2*b.Cap()+bytes.MinRead))
	larger.Write(old)
	clear(old)
	b.Buffer = *larger
}

// buffers are cleared before they are used again. The zero value is ready.
type buffers struct{ pool sync.Pool }

// get returns an empty buffer for about size bytes.
func (p *buffers) get(size int) *buffer {
	b, ok := p.pool.Get().(*buffer)
	if !ok {
		b = &buffer{}
	}
	// ReadFrom wants room to find the end in.
	b.Grow(max(size+bytes.MinRead, 2<<10))
	return b
}

func (p *buffers) put(b *buffer) {
	clear(b.Bytes())
	if b.Reset(); b.Cap() <= maxPooled {
		p.pool.Put(b)
	}
}
