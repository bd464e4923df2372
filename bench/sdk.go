package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// sdkTurn is how long a turn of either side lasts, about.
const sdkTurn = 300 * time.Millisecond

// sdk measures what a request costs this process over the bare SDK calls of
// the same work: CPU time and allocations, in turns. Neither side has a
// network; the vault's includes decoding the request and encoding the answer.
// Requests under way together share blocks of the audit log, bare calls do not.
func sdk(ctx context.Context, rounds int, out io.Writer) (err error) {
	debug.SetGCPercent(400) // as `serve`, for both sides
	w, err := newSDKWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	fmt.Fprintf(out, "%-16s %7s %12s %12s %7s %12s %12s %7s  %s\n", "request", "at once", "CPU µs", "SDK alone", "ratio", "allocations", "SDK alone", "ratio", "calls")
	for _, l := range w.loads() {
		if err := l.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		ours, theirs, err := l.calls(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		if !maps.Equal(ours, theirs) {
			return fmt.Errorf("%s: the vault calls %v, the minimum is %v", l.name, ours, theirs)
		}
		// With one request at a time, the CPU time is also that of threads
		// which wake up for each other and look for work.
		for _, n := range []int{1, 16} {
			row, err := l.measure(ctx, rounds, n)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			fmt.Fprintf(out, "%-16s %7d %12.1f %12.1f %7.2f %12.0f %12.0f %7.2f  %v\n", l.name, n,
				median(row.cpu[0]), median(row.cpu[1]), median(row.cpu[2]), median(row.allocs[0]), median(row.allocs[1]), median(row.allocs[2]), theirs)
		}
	}
	return nil
}

// sdkWorld is both sides, on the same stubs.
type sdkWorld struct {
	*instance
	bare   *bare
	random *rand.Rand
}

func newSDKWorld(ctx context.Context) (*sdkWorld, error) {
	i, err := openInstance(ctx)
	if err != nil {
		return nil, err
	}
	return &sdkWorld{
		instance: i, bare: newBare(i.tables, i.far), random: rand.New(rand.NewPCG(1, 0)),
	}, nil
}

// sdkLoad is a kind of request, and its minimum.
type sdkLoad struct {
	*sdkWorld
	name    string
	items   int
	reveals bool
	body    []byte
}

func (w *sdkWorld) loads() []*sdkLoad {
	return []*sdkLoad{
		{sdkWorld: w, name: "tokenize", items: 1},
		{sdkWorld: w, name: "detokenize", items: 1, reveals: true},
		{sdkWorld: w, name: "tokenize×100", items: batchSize},
		{sdkWorld: w, name: "detokenize×100", items: batchSize, reveals: true},
	}
}

// prepare tokenizes once and keeps what was put: the bare side puts the same,
// and reads find it.
func (l *sdkLoad) prepare(ctx context.Context) error {
	l.tables.keep.Store(true)
	defer l.tables.keep.Store(false)
	l.tables.taken(recordsTable)
	l.body = tokenizeBody(nil, l.random, l.items)
	answer := newReply()
	if err := l.do(ctx, "/v1/tokenize", l.body, answer); err != nil {
		return err
	}
	var made tokenizeResponse
	if err := json.Unmarshal(answer.body.Bytes(), &made); err != nil {
		return err
	}
	records := l.tables.taken(recordsTable)
	if l.reveals {
		l.tables.stored = records
		s := &server{}
		for _, item := range made.Items {
			s.tokens = append(s.tokens, item.Token)
		}
		l.body = []byte(`{"items":[`)
		for i, token := range s.tokens {
			if i > 0 {
				l.body = append(l.body, ',')
			}
			l.body = fmt.Appendf(l.body, `{"token":%q}`, token)
		}
		l.body = append(l.body, `],"purpose":"bench"}`...)
		l.tables.taken(auditTable)
		if err := l.ours(ctx, answer); err != nil {
			return err
		}
	}
	return l.bare.take(records, l.tables.taken(auditTable))
}

// ours answers a request, theirs makes the bare calls.
func (l *sdkLoad) ours(ctx context.Context, into *reply) error {
	if l.reveals {
		return l.do(ctx, "/v1/detokenize", l.body, into)
	}
	return l.do(ctx, "/v1/tokenize", l.body, into)
}

func (l *sdkLoad) theirs(ctx context.Context, _ *reply) error {
	if l.reveals {
		return l.bare.detokenize(ctx)
	}
	return l.bare.tokenize(ctx)
}

// calls of one request of each side.
func (l *sdkLoad) calls(ctx context.Context) (ours, theirs map[string]int, err error) {
	for _, s := range []*stub{l.tables, l.far} {
		s.keep.Store(true)
		defer s.keep.Store(false)
	}
	for _, side := range []struct {
		do    func(context.Context, *reply) error
		calls *map[string]int
	}{{l.ours, &ours}, {l.theirs, &theirs}} {
		l.tables.counted()
		l.far.counted()
		if err := side.do(ctx, newReply()); err != nil {
			return nil, nil, err
		}
		*side.calls = l.tables.counted()
		for op, n := range l.far.counted() {
			(*side.calls)[op] += n
		}
	}
	return ours, theirs, nil
}

// sdkRow is ours, theirs and their ratio, of each pair of turns.
type sdkRow struct{ cpu, allocs [3][]float64 }

func (l *sdkLoad) measure(ctx context.Context, rounds, atOnce int) (row sdkRow, err error) {
	for range rounds {
		var cpu, allocs [2]float64
		for side, do := range []func(context.Context, *reply) error{l.ours, l.theirs} {
			if cpu[side], allocs[side], err = cost(ctx, atOnce, do); err != nil {
				return row, err
			}
			row.cpu[side], row.allocs[side] = append(row.cpu[side], cpu[side]), append(row.allocs[side], allocs[side])
		}
		row.cpu[2], row.allocs[2] = append(row.cpu[2], cpu[0]/cpu[1]), append(row.allocs[2], allocs[0]/allocs[1])
	}
	return row, nil
}

// cost is a request's CPU time in µs, the garbage collector's included, and its allocations.
func cost(ctx context.Context, atOnce int, do func(context.Context, *reply) error) (cpu, allocs float64, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun, used := time.Now(), processTime()
	var n atomic.Int64
	clients, ctx := errgroup.WithContext(ctx)
	for range atOnce {
		clients.Go(func() error {
			answer := newReply()
			for ; time.Since(begun) < sdkTurn; n.Add(1) {
				if err := do(ctx, answer); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = clients.Wait()
	used = processTime() - used
	runtime.ReadMemStats(&after)
	return float64(used.Microseconds()) / float64(n.Load()), float64(after.Mallocs-before.Mallocs) / float64(n.Load()), err
}
