package oidc

import (
	"crypto/sha256"
	"sync"
	"time"

	"piivault/internal/authz"
)

const (
	// maxVerified bounds the tokens that are remembered, some 500 bytes each.
	maxVerified = 10_000
	// rememberFor is when a signature is checked again at the latest.
	rememberFor = 5 * time.Minute
)

// digest stands for a token: what is remembered opens nothing.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// remembered is a token that was verified.
type remembered struct {
	issuer   *issuer
	keys     *keySet // that it was verified with
	identity authz.Identity
	until    time.Time
}

// cache keeps a signature from being checked for every request.
type cache struct {
	mu      *sync.RWMutex // guards entries
	entries map[digest]remembered
}

func newCache() cache { return cache{new(sync.RWMutex), map[digest]remembered{}} }

func (c *cache) get(d digest) (remembered, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.entries[d]
	return r, ok
}

// put makes room, where there is none, by forgetting those that are over or,
// failing that, any one: it is verified again when it comes.
func (c *cache) put(d digest, r remembered, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxVerified {
		c.makeRoom(now)
	}
	c.entries[d] = r
}

// makeRoom looks at a few only: the map's order is random.
func (c *cache) makeRoom(now time.Time) {
	looked := 0
	for d, r := range c.entries {
		if looked++; looked == 1 || !now.Before(r.until) {
			delete(c.entries, d)
		}
		if looked == 32 {
			return
		}
	}
}
