package simulation

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

const (
	// promptly is how long an endpoint without a fault may take to answer.
	promptly = 250 * time.Millisecond
	// lateWrites is how long a write may be under way after its caller gave up.
	lateWrites = 3 * time.Second
)

var (
	errCrashed = errors.New("simulation: the instance is gone")
	errNoReply = errors.New("simulation: no answer")
)

// call is something that the code under test waits for.
type call struct {
	name   string // of what it does, by whom: the same in every run of a seed
	from   *instance
	to     *endpoint
	write  bool
	chore  bool             // of the background, and decides nothing
	index  bool             // a chore of the audit indexer
	do     func(part) error // its effect, on the scheduler's goroutine
	born   time.Time
	step   int
	err    error
	done   chan struct{}
	orphan atomic.Bool // its caller has given up
}

// part says how much of a write is applied: all but for batches.
type part func(i int) bool

func whole(int) bool { return true }

// scheduler decides what happens next. Its fields belong to the goroutine of
// run but for those under mu.
type scheduler struct {
	random *rand.Rand
	trace  []string // the last lines
	digest hash.Hash
	keep   int // lines of trace kept
	// healing: nothing goes wrong any more.
	healing bool
	log     func(string)

	mu    sync.Mutex // guards step, calls and what finishes
	step  int        // written by run alone
	calls []*call
	ended []*outcome // of client operations
	news  []string   // of instances, to be sorted
}

func newScheduler(seed uint64, keep int) *scheduler {
	return &scheduler{random: rand.New(rand.NewPCG(seed, 0x5eed)), digest: sha256.New(), keep: keep} //nolint:gosec // G404: draws schedules
}

// tracef says what happened: one line, in the hash.
func (s *scheduler) tracef(format string, args ...any) {
	line := fmt.Sprintf("%6d %12.6f  ", s.step, time.Since(epoch).Seconds()) + fmt.Sprintf(format, args...)
	_, _ = s.digest.Write([]byte(line))
	_, _ = s.digest.Write([]byte{'\n'})
	if s.log != nil {
		s.log(line)
	}
	if s.trace = append(s.trace, line); len(s.trace) > 2*s.keep {
		s.trace = slices.Delete(s.trace, 0, s.keep)
	}
}

// epoch is when a synctest bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func (s *scheduler) hash() string { return hex.EncodeToString(s.digest.Sum(nil)[:12]) }

// one in n.
func (s *scheduler) oneIn(n int) bool { return s.random.IntN(n) == 0 }

func (s *scheduler) upTo(d time.Duration) time.Duration {
	return time.Duration(s.random.Int64N(int64(d)) + 1)
}

func pick[T any](s *scheduler, from []T) T { return from[s.random.IntN(len(from))] }

// begin begins a step.
func (s *scheduler) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step++
}

// settle lets everything run until it waits, and a moment pass, so that no two
// timers begun in different steps end at once.
func (s *scheduler) settle() {
	time.Sleep(time.Microsecond)
	synctest.Wait()
}

type actorKey struct{}

// as names who acts.
func as(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actor(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	return name
}

// park waits until the scheduler has done c, or ctx ends.
func (s *scheduler) park(ctx context.Context, c *call) error {
	if c.from.dead.Load() {
		return errCrashed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	c.name = actor(ctx) + " " + c.name
	c.done = make(chan struct{})
	s.mu.Lock()
	c.born, c.step = time.Now(), s.step
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	default:
		c.orphan.Store(true)
		return fmt.Errorf("simulation: %w", ctx.Err())
	}
}

// waiting lists the calls in an order that does not depend on goroutines.
func (s *scheduler) waiting() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.step, b.step), strings.Compare(a.name, b.name))
	})
	return slices.Clone(s.calls)
}

// finish answers a call.
func (s *scheduler) finish(c *call, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.err = err
	s.calls = slices.DeleteFunc(s.calls, func(o *call) bool { return o == c })
	close(c.done)
}

func (s *scheduler) report(o *outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, o)
}

// tell is an instance's news of itself; of one that is gone there is none.
func (s *scheduler) tell(of *instance, news string) {
	if of.dead.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news = append(s.news, of.name+" "+news)
}

// take empties what has finished since the last step, in order.
func (s *scheduler) take() (ended []*outcome, news []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended, news = s.ended, s.news
	s.ended, s.news = nil, nil
	slices.SortFunc(ended, func(a, b *outcome) int { return cmp.Compare(a.op.id, b.op.id) })
	slices.Sort(news)
	return ended, news
}
