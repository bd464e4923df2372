package rig_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/sim/rig"
)

const (
	// bound is within what an instance refuses once its region's table says
	// that it must (design §5).
	bound = 5 * time.Second
	// slack is how late timers and answers of a loaded machine may be.
	slack = 2 * time.Second
)

// ending ends what a key may have revealed: every instance refuses with code.
type ending struct {
	name, key, code string
	begin           func() (notReached []string, err error)
	there           func(*client.Client) (bool, error) // in the table of the region that is asked

	askers     []*asker // of every instance
	answered   time.Time
	notReached []string // as answered, until they have it
}

// asker asks an instance for a value, until it is refused for good.
type asker struct {
	of     *rig.Instance
	client *client.Client
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	value   time.Time  // when the latest request that got the value was sent
	refused time.Time
}

// endings are tried on a deployment of four instances in two regions.
type endings struct {
	rig    *rig.Rig
	admin  *client.Client
	token  string
	asking sync.WaitGroup
}

// Seconds until the last instance refuses, after a revocation, a suspension,
// and the kill switch of a tenant and of the deployment: no request that is
// sent five seconds after the answer gets a value.
func TestTheLastInstanceRefuses(t *testing.T) {
	t.Parallel()
	e := newEndings(t)
	rounds := [][]*ending{{e.revocation(t), e.suspension(t)}, {e.tenantStop(t)}, {e.deploymentStop(t)}}
	apart := []*ending{e.revocation(t), e.suspension(t), e.tenantStop(t)}
	for _, round := range rounds {
		e.watch(t, round)
		end(t, nil, round...)
		for _, one := range round {
			one.refuses(t, one.answered, one.askers)
		}
		e.resume(t)
	}
	e.apart(t, apart[0], apart[1], apart[2])
}

// apart: the region that revokes, suspends and stops cannot write to the
// other's table, and nothing is replicated. The answers name that region, which
// goes on. It refuses once the same revocation was sent again over a link that
// is back; what is not sent again replication brings.
func (e *endings) apart(t *testing.T, revocation, suspension, stop *ending) {
	t.Helper()
	e.watch(t, []*ending{revocation, suspension, stop})
	e.rig.Replicator.Partition(true)
	for _, i := range e.rig.In(rig.EU) {
		e.rig.Fault(rig.Where{Instance: i.Name, Region: rig.US, Service: rig.DynamoDB}, rig.Fault{Mode: rig.Refuse, Table: e.rig.Names.Control})
	}
	end(t, []string{rig.US}, revocation, suspension, stop)
	for _, one := range []*ending{revocation, suspension, stop} {
		one.refuses(t, one.answered, one.in(rig.EU))
		one.goesOn(t, rig.US)
	}
	e.rig.Fault(rig.Where{}, rig.Fault{})
	revocation.name += ", again"
	end(t, nil, revocation)
	revocation.refuses(t, revocation.answered, revocation.in(rig.US))
	suspension.goesOn(t, rig.US)
	stop.goesOn(t, rig.US)
	suspension.name += ", replicated"
	stop.name += ", replicated"
	e.rig.Replicator.Partition(false)
	arrived := e.arrive(t, rig.US, suspension, stop)
	suspension.refuses(t, arrived[suspension], suspension.in(rig.US))
	stop.refuses(t, arrived[stop], stop.in(rig.US))
}

// arrive waits until a region's table has them all, and tells since when.
func (e *endings) arrive(t *testing.T, region string, list ...*ending) map[*ending]time.Time {
	t.Helper()
	c, healed, arrived := e.rig.In(region)[0].Client(t), time.Now(), map[*ending]time.Time{}
	rig.Eventually(t, "replication to "+region, func() bool {
		for _, one := range list {
			there, err := one.there(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, known := arrived[one]; there && !known {
				arrived[one], one.notReached = time.Now(), nil
				t.Logf("%s: there %.2f s after", one.name, arrived[one].Sub(healed).Seconds())
			}
		}
		return len(arrived) == len(list)
	})
	return arrived
}

func newEndings(t *testing.T) *endings {
	t.Helper()
	e := &endings{rig: newRig(t, rig.Config{More: "prefetch: {max_keys: 0}\n"})}
	e.admin = e.rig.In(rig.EU)[0].Client(t)
	e.token = tokenize(t, e.admin, "", emails("refused", 1))[0]
	e.rig.Settle(t)
	t.Cleanup(e.asking.Wait)
	return e
}

func (e *endings) revocation(t *testing.T) *ending {
	t.Helper()
	id, key := e.newKey(t)
	return &ending{name: "revocation", key: key, code: "401 unauthenticated", begin: func() ([]string, error) {
		answer, err := e.admin.RevokeKey(t.Context(), id)
		return answer.NotReached, err
	}}
}

func (e *endings) suspension(t *testing.T) *ending {
	t.Helper()
	id, key := e.newKey(t)
	return &ending{name: "suspension", key: key, code: "401 unauthenticated", begin: func() ([]string, error) {
		answer, err := e.admin.SuspendKey(t.Context(), id)
		return answer.NotReached, err
	}, there: func(c *client.Client) (bool, error) {
		keys, err := c.Keys(t.Context())
		return slices.ContainsFunc(keys.Keys, func(k client.KeyInfo) bool { return k.ID == id && !k.Suspended.IsZero() }), err
	}}
}

func (e *endings) tenantStop(t *testing.T) *ending {
	t.Helper()
	_, key := e.newKey(t)
	return &ending{name: "stop of a tenant", key: key, code: "503 stopped", begin: func() ([]string, error) {
		answer, err := e.admin.Stop(t.Context(), "a drill")
		return answer.NotReached, err
	}, there: func(c *client.Client) (bool, error) {
		stops, err := c.Stops(t.Context())
		return len(stops.Stops) > 0, err
	}}
}

func (e *endings) deploymentStop(t *testing.T) *ending {
	t.Helper()
	_, key := e.newKey(t)
	return &ending{name: "stop of the deployment", key: key, code: "503 stopped", begin: func() ([]string, error) {
		_, err := e.rig.Command(t.Context(), "stop", "--reason", "a drill")
		return nil, err
	}}
}

func (e *endings) newKey(t *testing.T) (id, key string) {
	t.Helper()
	answer, err := e.admin.CreateKey(t.Context(), client.CreateKeyRequest{Name: "reader", Roles: []string{"reader"}})
	if err != nil {
		t.Fatal(err)
	}
	return answer.ID, answer.Key
}

// resume lifts what stops.
func (e *endings) resume(t *testing.T) {
	t.Helper()
	if _, err := e.admin.Resume(t.Context(), "the drill is over"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.rig.Command(t.Context(), "resume", "--reason", "the drill is over"); err != nil {
		t.Fatal(err)
	}
}

// watch waits until every instance serves the keys, and asks them from then on.
func (e *endings) watch(t *testing.T, list []*ending) {
	t.Helper()
	for _, one := range list {
		for _, i := range e.rig.Instances {
			a := &asker{of: i, client: i.ClientOf(t, one.key), done: make(chan struct{})}
			rig.Eventually(t, i.Name+" serves before the "+one.name, func() bool { return a.ask(t, e.token) == "200" })
			one.askers = append(one.askers, a)
		}
	}
	for _, one := range list {
		for _, a := range one.askers {
			e.asking.Go(func() {
				defer close(a.done)
				rig.Eventually(t, a.of.Name+" refuses: "+one.name, func() bool {
					return a.ask(t, e.token) == one.code || t.Context().Err() != nil
				})
			})
		}
	}
}

// ask asks once and notes what came of it.
func (a *asker) ask(t *testing.T, token string) string {
	t.Helper()
	sent := time.Now()
	_, err := a.client.Detokenize(t.Context(), reveal([]string{token}))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.value = sent
	} else {
		a.refused = time.Now()
	}
	return outcome(err)
}

// end makes them all at once; apart are regions that the answers must name. On
// a busy machine they may name more.
func end(t *testing.T, apart []string, list ...*ending) {
	t.Helper()
	var making sync.WaitGroup
	for _, one := range list {
		making.Go(func() {
			began := time.Now()
			var err error
			one.notReached, err = one.begin()
			one.answered = time.Now()
			t.Logf("%s: answered after %.2f s; not reached: %q", one.name, one.answered.Sub(began).Seconds(), one.notReached)
			unnamed := slices.ContainsFunc(apart, func(region string) bool { return !slices.Contains(one.notReached, region) })
			if err != nil || unnamed {
				t.Errorf("%s: not reached: %q, want %q; %v", one.name, one.notReached, apart, err)
			}
		})
	}
	making.Wait()
}

// refuses waits until all askers are refused. What they ask for once the bound
// is over since their table says so, they do not get: in regions that were
// reached.
func (one *ending) refuses(t *testing.T, since time.Time, askers []*asker) {
	t.Helper()
	var value, refused time.Duration
	for _, a := range askers {
		<-a.done
		if slices.Contains(one.notReached, a.of.Region) {
			continue
		}
		value, refused = max(value, a.value.Sub(since)), max(refused, a.refused.Sub(since))
	}
	t.Logf("%s: %d instances: the last value was asked for %.2f s after, the last one refuses after %.2f s", one.name, len(askers), value.Seconds(), refused.Seconds())
	if value > bound+slack {
		t.Errorf("%s: a value is given to who asks %s later", one.name, value)
	}
}

// goesOn: a region cannot know.
func (one *ending) goesOn(t *testing.T, region string) {
	t.Helper()
	now := time.Now()
	for _, a := range one.in(region) {
		rig.Eventually(t, a.of.Name+" goes on after the "+one.name, func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.value.After(now)
		})
	}
}

func (one *ending) in(region string) []*asker {
	return slices.DeleteFunc(slices.Clone(one.askers), func(a *asker) bool { return a.of.Region != region })
}
