package rig_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/audit"
	"piivault/internal/sim/rig"
)

// attackBudget is how many values may be learned; a twentieth of it, of how
// many subjects. At full size:
//
//	go test -run TestAttack -v -timeout 30m ./test/rig -attack-budget 10000
var attackBudget = flag.Int("attack-budget", 240, "values that attackers may learn")

const (
	attackers = 24
	grab      = 10 // tokens of a request
	enough    = 6  // answers in a row without news, of instances by chance, after which an attacker gives up
	mishap    = 700 * time.Millisecond
	fullSize  = 10_000
)

// attack is what 24 attackers try to get beyond a budget.
type attack struct {
	name     string
	keys     []string
	masked   bool
	subjects bool // the budget is one of subjects
	budget   int
	turn     int // of the mishaps, which the attacks share at less than full size

	rig    *rig.Rig
	tokens []string
	began  time.Time
	calm   atomic.Bool // the mishaps are over

	mu      sync.Mutex // guards what follows
	values  int
	seen    map[string]bool // tokens, each of a subject of its own
	answers map[string]int
}

// G5: 24 attackers at six instances in two regions learn no more than a budget
// allows, while instances are killed and come back, regions are cut off from
// each other, and the counters hang, refuse, and lose answers: one key against
// its own budgets of values and of subjects, several against their tenant's.
// Clocks that differ are the simulation's: no process here has another's.
func TestAttack(t *testing.T) { // alone: it leaves the machine to nobody else
	n := *attackBudget
	most := "{hour: 1000000, day: 1000000}"
	all := func(masked string) string {
		return fmt.Sprintf("plain: %s, masked: %s, misses: %s, guesses: %s", most, masked, most, most)
	}
	r := newRig(t, rig.Config{PerRegion: 3, KMSTimeout: time.Second, Budgets: fmt.Sprintf(
		"budgets:\n  principal: {%s, subjects: %s}\n  tenant: {%s}\n", all(most), most, all(fmt.Sprintf("{hour: %d, day: %d}", n, n)))})
	tokens := ofSubjects(t, r, max(300, 3*n/20))
	plenty, few, fewer := limit(1_000_000), limit(n), limit(n/20)
	key := func(plain, subjects *client.BudgetLimit) string {
		b := client.Budget{Plain: plain, Masked: plenty, Misses: plenty, Guesses: plenty, Subjects: subjects}
		answer, err := r.Instances[0].Client(t).CreateKey(t.Context(), client.CreateKeyRequest{Name: "attacker", Roles: []string{"reader"}, Budget: b})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Key
	}
	attacks := []*attack{
		{name: "one key", keys: []string{key(few, plenty)}, budget: n},
		{name: "subjects", keys: []string{key(plenty, fewer)}, subjects: true, budget: n / 20},
		{name: "keys of one tenant", keys: []string{key(plenty, plenty), key(plenty, plenty), key(plenty, plenty)}, masked: true, budget: n},
	}
	for i, a := range attacks {
		a.rig, a.tokens, a.seen, a.answers, a.turn = r, tokens, map[string]bool{}, map[string]int{}, i
		a.run(t)
	}
	r.Settle(t)
	for _, a := range attacks {
		a.check(t)
	}
	if attacks[0].values == 0 {
		t.Error("nobody learned anything")
	}
}

func limit(n int) *client.BudgetLimit { return &client.BudgetLimit{Hour: int64(n), Day: int64(n)} }

// ofSubjects are tokens that every region has, each of a subject of its own.
func ofSubjects(t *testing.T, r *rig.Rig, n int) (tokens []string) {
	t.Helper()
	items := emails("victim", n)
	for i := range items {
		items[i].SubjectID = fmt.Sprint("victim ", i)
	}
	for list := range slices.Chunk(items, bigBatch) {
		tokens = append(tokens, tokenize(t, r.Instances[0].Client(t), "", list)...)
	}
	r.Settle(t)
	return tokens
}

// run has the attackers go on until nobody gets anything any more.
func (a *attack) run(t *testing.T) {
	t.Helper()
	a.began = time.Now()
	var running sync.WaitGroup
	for n := range attackers {
		running.Go(func() { a.attacker(t, n) })
	}
	running.Go(func() {
		defer a.calm.Store(true)
		a.disturb(t)
	})
	running.Wait()
}

// attacker asks instances by chance for tokens by chance.
func (a *attack) attacker(t *testing.T, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(6, uint64(n)))
	patience := time.Now().Add(time.Minute)
	if *attackBudget >= fullSize {
		patience = time.Now().Add(10 * time.Minute)
	}
	for refused := 0; refused < enough && t.Context().Err() == nil; {
		if time.Now().After(patience) { // a machine that is busy answers little but 503
			return
		}
		c := a.rig.Instances[random.IntN(len(a.rig.Instances))].ClientOf(t, a.keys[n%len(a.keys)])
		req := client.DetokenizeRequest{Purpose: a.name, OnError: client.OnErrorContinue}
		for range grab {
			item := client.DetokenizeItem{Token: a.tokens[random.IntN(len(a.tokens))]}
			if a.masked {
				item.Reveal = client.RevealMasked
			}
			req.Items = append(req.Items, item)
		}
		answer, err := c.Detokenize(t.Context(), req)
		switch fresh := a.got(req, answer, err); {
		case fresh > 0 || !a.calm.Load():
			refused = 0
		case err == nil: // an answer, and not a fault's
			refused++
		}
		if err != nil && wait(t, mishap/20) != nil {
			return
		}
	}
}

// got counts what an answer has, and what of it is new: values always, but
// subjects once.
func (a *attack) got(req client.DetokenizeRequest, answer client.DetokenizeResponse, err error) (fresh int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.answers[outcome(err)]++
		return 0
	}
	for i := range answer.Items {
		code := string(answer.Items[i].Status)
		if answer.Items[i].Status == client.ItemStatusOk {
			if !a.subjects || !a.seen[req.Items[i].Token] {
				fresh++
			}
			a.seen[req.Items[i].Token] = true
			a.values++
		} else {
			code = answer.Items[i].Error.Code
		}
		a.answers["item "+code]++
	}
	return fresh
}

// disturb lets mishaps befall the deployment, one after the other.
func (a *attack) disturb(t *testing.T) {
	t.Helper()
	faults := func(f rig.Fault, where ...rig.Where) func() error {
		return func() error {
			for _, w := range where {
				a.rig.Fault(w, f)
			}
			err := wait(t, mishap)
			a.rig.Fault(rig.Where{}, rig.Fault{})
			return err
		}
	}
	kill := func(i *rig.Instance) func() error {
		return func() error {
			err := errors.Join(i.Kill(), wait(t, mishap/4))
			for range 20 { // as whoever supervises processes does
				if started := i.Start(); started == nil {
					return err
				}
				err = errors.Join(err, wait(t, mishap))
			}
			return errors.Join(err, errors.New("it does not start"))
		}
	}
	var apart []rig.Where
	for _, i := range a.rig.Instances {
		other := map[string]string{rig.EU: rig.US, rig.US: rig.EU}[i.Region]
		apart = append(apart, rig.Where{Instance: i.Name, Region: other})
	}
	counters := a.rig.Names.Counters
	tables := rig.Where{Service: rig.DynamoDB}
	eu, us := a.rig.In(rig.EU), a.rig.In(rig.US)
	for i, befall := range []func() error{
		kill(eu[0]),
		faults(rig.Fault{Mode: rig.Hang}, apart...),
		kill(us[1]),
		faults(rig.Fault{Mode: rig.Lost, Table: counters, Every: 3}, tables),
		faults(rig.Fault{Mode: rig.Refuse, Table: counters}, rig.Where{Region: rig.EU, Service: rig.DynamoDB}),
		kill(eu[2]),
		faults(rig.Fault{Mode: rig.Late, Table: counters, Every: 5}, tables),
		faults(rig.Fault{Mode: rig.Throttle, Table: counters, Every: 2}, rig.Where{Region: rig.US, Service: rig.DynamoDB}),
		kill(us[0]),
		faults(rig.Fault{Mode: rig.Hang, Table: counters}, rig.Where{Instance: us[2].Name, Service: rig.DynamoDB}),
	} {
		if *attackBudget < fullSize && i%3 != a.turn {
			continue
		}
		if err := befall(); err != nil {
			t.Errorf("%s: %v", a.name, err)
			return
		}
	}
}

// check counts what left by the audit logs: answers that nobody received too.
func (a *attack) check(t *testing.T) {
	t.Helper()
	released, subjects := 0, map[string]bool{}
	for _, region := range []string{rig.EU, rig.US} {
		for log, entries := range a.rig.Entries(t, region) {
			if log[:len(region)] != region {
				continue // the other region's own table has it
			}
			for _, e := range entries {
				if e.Purpose == a.name && e.Action == "detokenize" && e.Outcome == audit.Authorized {
					released++
					subjects[e.Subject] = true
				}
			}
		}
	}
	received, spent := a.values, released
	if a.subjects {
		received, spent = len(a.seen), len(subjects)
	}
	t.Logf("%s: budget %d, received %d, released %d, stranded %d; answers %v", a.name, a.budget, received, spent, a.budget-spent, a.answers)
	allowed := a.budget
	if day := 24 * time.Hour; !a.began.UTC().Truncate(day).Equal(time.Now().UTC().Truncate(day)) {
		allowed *= 2 // midnight has passed
	}
	if received > spent || spent > allowed {
		t.Errorf("%s: received %d, released %d, budget %d", a.name, received, spent, allowed)
	}
	if *attackBudget >= fullSize && spent < a.budget/2 {
		t.Errorf("%s: only %d were released", a.name, spent)
	}
	if *attackBudget >= fullSize && a.answers["item over_budget"]+a.answers[fmt.Sprint(http.StatusTooManyRequests)] == 0 {
		t.Errorf("%s: nobody was told that it is over budget", a.name)
	}
}
