package simulation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"piivault/internal/crypto"
)

// ahead bounds the data keys that instances make before they are needed.
func ahead() crypto.PrefetchConfig {
	return crypto.PrefetchConfig{MaxKeys: 1000, MaxAge: 10 * time.Second}
}

// keyNames name data keys made ahead by who makes them and for which type, in
// the order in which they are begun: of several begun at once which one has
// which id is nobody's choice, and makes no difference.
type keyNames struct {
	mu    sync.Mutex // guards what follows
	names map[string]string
	made  map[string]int
}

func newKeyNames() *keyNames { return &keyNames{names: map[string]string{}, made: map[string]int{}} }

// begun takes note of a data key that is asked for; ids of others, which are
// drawn in order by who needs them, are names as they are.
func (n *keyNames) begun(ctx context.Context, by *instance, ec map[string]string) {
	id := ec["pv-key"]
	if id == "" || actor(ctx) != by.name {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.names[id] == "" {
		partition := by.name + " " + ec["pv-type"]
		n.made[partition]++
		n.names[id] = fmt.Sprintf("%s %d", partition, n.made[partition])
	}
}

func (n *keyNames) of(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name := n.names[id]; name != "" {
		return name
	}
	return id
}

// countAhead adds up what an instance that ends has used of keys made ahead.
func (w *World) countAhead(i *instance) {
	if !w.ahead || !i.ready {
		return
	}
	w.oracle.counts["data keys made ahead and used"] += int(i.sealer.Prefetched().Used)
}
