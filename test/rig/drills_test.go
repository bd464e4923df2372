package rig_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/sim/rig"
)

// Of every drill: how long the fault lasts, and who goes on meanwhile.
const (
	faultTime = 1200 * time.Millisecond
	workers   = 2 // of each region
	pairSize  = 2 // items of a request
)

// drill is a fault in region EU that befalls the instances of both regions,
// while clients go on in both.
type drill struct {
	name  string
	where rig.Where
	fault rig.Fault
	kill  bool // kill -9 of an instance instead
}

func drills() []drill {
	list := []drill{{name: "kill -9 of an instance", kill: true}}
	for _, service := range []string{rig.DynamoDB, rig.KMS} {
		for _, f := range []rig.Fault{
			{Mode: rig.Hang}, {Mode: rig.Refuse}, {Mode: rig.Throttle}, {Mode: rig.Late}, {Mode: rig.Lost, Every: 2}, {Mode: rig.Broken, Every: 2},
		} {
			list = append(list, drill{name: fmt.Sprintf("%s %s", service, f.Mode), where: rig.Where{Region: rig.EU, Service: service}, fault: f})
		}
	}
	return append(list, drill{
		name: "audit table hang", where: rig.Where{Region: rig.EU, Service: rig.DynamoDB}, fault: rig.Fault{Mode: rig.Hang, Table: "vault-audit"},
	})
}

// Whatever fails, clients see success or a refusal with a stable code that
// says to try again; every token that was acknowledged opens to its value
// afterwards, in both regions (G1), and every value that left, during the
// fault too, has its durable entry (G6).
func TestDrills(t *testing.T) {
	t.Parallel()
	r := newRig(t, rig.Config{KMSTimeout: time.Second, More: "limits: {timeout: 3s}\nprefetch: {max_keys: 0}\n"})
	released := &releases{}
	var report strings.Builder
	for _, d := range drills() {
		l := &load{rig: r, name: d.name, released: released, told: map[string]int{}, stop: make(chan struct{})}
		l.run(t, d)
		l.recovered(t)
		l.reread(t)
		fmt.Fprintf(&report, "\n  %s", l)
	}
	r.Settle(t)
	t.Logf("what clients were told in the drills:%s", report.String())
	t.Logf("%d values left, each with its durable entry", released.check(t, r))
}

// load is what clients do during a drill, and what they were told.
type load struct {
	rig      *rig.Rig
	name     string
	released *releases
	stop     chan struct{}

	mu      sync.Mutex // guards what follows
	told    map[string]int
	kept    []kept
	values  int
	longest time.Duration
}

// kept is a token that was acknowledged.
type kept struct{ token, value, region string }

func (l *load) String() string {
	var codes []string
	for _, code := range slices.Sorted(maps.Keys(l.told)) {
		codes = append(codes, fmt.Sprintf("%d× %s", l.told[code], code))
	}
	return fmt.Sprintf("%-22s %4d tokens, %4d values, slowest %4.1f s: %s", l.name, len(l.kept), l.values, l.longest.Seconds(), strings.Join(codes, ", "))
}

// run is the drill: clients in both regions, and the fault in their midst.
func (l *load) run(t *testing.T, d drill) {
	t.Helper()
	var clients sync.WaitGroup
	for n := range workers {
		for _, region := range []string{rig.EU, rig.US} {
			clients.Go(func() { l.client(t, region, n, d.kill) })
		}
	}
	l.rig.Fault(d.where, d.fault)
	if d.kill {
		victim := l.rig.In(rig.EU)[0]
		err := errors.Join(wait(t, faultTime/2), victim.Kill(), wait(t, faultTime/2), victim.Start())
		if err != nil {
			t.Error(err)
		}
	} else if err := wait(t, faultTime); err != nil {
		t.Error(err)
	}
	l.rig.Fault(rig.Where{}, rig.Fault{})
	close(l.stop)
	clients.Wait()
}

// client keeps pairs of values and reads them back, and what others kept.
func (l *load) client(t *testing.T, region string, n int, kill bool) {
	t.Helper()
	for round := 0; ; round++ {
		select {
		case <-l.stop:
			return
		default:
		}
		instances := l.rig.In(region)
		c := instances[(n+round)%len(instances)].Client(t)
		items := emails(fmt.Sprintf("%s-%s-%d-%d-", strings.ReplaceAll(l.name, " ", "-"), region, n, round), pairSize)
		key := ""
		if round%2 == 1 {
			key = client.NewIdempotencyKey()
		}
		began := time.Now()
		answer, err := c.Tokenize(t.Context(), key, client.TokenizeRequest{Items: items})
		l.note(t, "tokenize", err, began, kill)
		if err == nil {
			l.keep(region, items, answer)
		}
		if read := l.some(round); read != nil {
			l.read(t, c, region, read, kill)
		}
	}
}

func (l *load) keep(region string, items []client.TokenizeItem, answer client.TokenizeResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range items {
		l.kept = append(l.kept, kept{answer.Items[i].Token, items[i].Value, region})
	}
}

// some are tokens that anybody was given, the newest among them.
func (l *load) some(round int) []kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return nil
	}
	return []kept{l.kept[len(l.kept)-1], l.kept[round%len(l.kept)]}
}

func (l *load) read(t *testing.T, c *client.Client, region string, list []kept, kill bool) {
	t.Helper()
	began := time.Now()
	answer, err := c.Detokenize(t.Context(), purposeful(l.name, list))
	l.note(t, "detokenize", err, began, kill)
	if err == nil {
		l.opened(t, region, list, answer)
	}
}

func purposeful(purpose string, list []kept) client.DetokenizeRequest {
	tokens := make([]string, len(list))
	for i := range list {
		tokens[i] = list[i].token
	}
	req := reveal(tokens)
	req.Purpose = purpose
	return req
}

// opened: what a token opens to is what was kept under it.
func (l *load) opened(t *testing.T, region string, list []kept, answer client.DetokenizeResponse) {
	t.Helper()
	for i, k := range list {
		if answer.Items[i].Value != k.value {
			t.Errorf("%s: a token of %s opens another value in %s", l.name, k.region, region)
		}
	}
	l.released.add(region, l.name, answer)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values += len(list)
}

// note: a client may be told to come back, and nothing else. That a process
// is gone it sees where one was killed.
func (l *load) note(t *testing.T, what string, err error, began time.Time, kill bool) {
	t.Helper()
	said := outcome(err)
	refusal, refused := err.(*client.Error) //nolint:errorlint // it is not wrapped
	switch {
	case err == nil, kill && !refused:
	case !refused, refusal.Code == "", !refusal.Temporary():
		t.Errorf("%s: %s: %s: %v", l.name, what, said, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[what+" "+said]++
	l.longest = max(l.longest, time.Since(began))
}

// recovered waits until every instance serves again, all by itself.
func (l *load) recovered(t *testing.T) {
	t.Helper()
	var instances sync.WaitGroup
	for _, i := range l.rig.Instances {
		instances.Go(func() {
			rig.Eventually(t, i.Name+" serves after "+l.name, func() bool {
				_, err := i.Client(t).Tokenize(t.Context(), "", client.TokenizeRequest{Items: emails(l.name+"-after-", 1)})
				return err == nil
			})
		})
	}
	instances.Wait()
}

// reread: every token that was acknowledged opens in both regions (G1).
func (l *load) reread(t *testing.T) {
	t.Helper()
	for _, region := range []string{rig.EU, rig.US} {
		for list := range slices.Chunk(l.kept, 50) {
			c := l.rig.In(region)[0].Client(t)
			rig.Eventually(t, "acknowledged tokens open after "+l.name, func() bool {
				answer, err := c.Detokenize(t.Context(), purposeful(l.name, list))
				if err == nil {
					l.opened(t, region, list, answer)
				} else if refusal, ok := err.(*client.Error); !ok || !refusal.Temporary() { //nolint:errorlint // it is not wrapped
					t.Fatalf("%s: acknowledged tokens in %s: %v", l.name, region, err)
				}
				return err == nil
			})
		}
	}
}

// wait lets time pass, which is what a fault lasts.
func wait(t *testing.T, d time.Duration) error {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.Context().Done():
		return t.Context().Err()
	case <-timer.C:
		return nil
	}
}
