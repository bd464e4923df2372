package httpapi

import (
	"bytes"
	"sync"
)

// Buffers larger than this are left to the garbage collector.
const maxPooled = 256 << 10

// buffer holds a body. Whatever it grew out of is not cleared, so it is made
// large enough from the start.
type buffer struct{ bytes.Buffer }

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
