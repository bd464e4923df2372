// Package drills_test is docs/operations.md and docs/resilience.md done on two
// regions of real instances: restores after a loss, a region that is out, and
// what an outage of a region's KMS costs.
package drills_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/sim/rig"
)

var ground *rig.Ground

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(rig.Main(m, &ground))
}

// types of every drill: random tokens and deterministic ones.
const types = `types:
  - {name: email, kind: email}
  - {name: known_email, kind: email, token: deterministic, accept_guessing: true}
`

// accounts counts as the ground's DynamoDB Local does, of which the n-th rig
// has the n-th account: so a drill reaches the tables of its own.
var accounts struct {
	mu    sync.Mutex // held while a rig is made
	local *dynamolocal.Server
}

// drill is a deployment and direct ways to its tables, as a backup has them.
type drill struct {
	*rig.Rig
	tables map[string]*dynamo.Client // by region
}

func newDrill(t *testing.T, c rig.Config) *drill {
	t.Helper()
	accounts.mu.Lock()
	defer accounts.mu.Unlock()
	if accounts.local == nil {
		accounts.local = &dynamolocal.Server{Endpoint: ground.DynamoDB.Endpoint}
	}
	account := accounts.local.Account()
	c.More += types
	d := &drill{Rig: rig.New(t, ground, c), tables: map[string]*dynamo.Client{}}
	for _, region := range []string{rig.EU, rig.US} {
		d.tables[region] = account.Client(t, region)
		if len(d.items(t, region, d.Names.Control)) == 0 {
			t.Fatal("these are not the rig's tables")
		}
	}
	return d
}

// at is a client of a region's first instance.
func (d *drill) at(t *testing.T, region string) *client.Client {
	t.Helper()
	return d.In(region)[0].Client(t)
}

// items are all of a table's.
func (d *drill) items(t *testing.T, region, table string) (items []dynamo.Item) {
	t.Helper()
	c := d.tables[region]
	scan := dynamo.Scan{Table: table, Segments: 1, Limit: 500, Filter: "attribute_exists(pk)", Attributes: "pk, sk"}
	for more := true; more; more = scan.From != nil {
		found, last, err := c.ScanPage(t.Context(), scan)
		if err != nil {
			t.Fatal(err)
		}
		scan.From = last
		keys := make([]dynamo.Key, len(found))
		for i := range found {
			keys[i] = dynamo.Read(found[i]).Key()
		}
		err = c.BatchGet(t.Context(), table, keys, "", func(item dynamo.Item) error {
			items = append(items, item)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return items
}

// lose leaves nothing of a region's tables.
func (d *drill) lose(t *testing.T, region string, tables ...string) {
	t.Helper()
	for _, table := range tables {
		var writes []dynamo.Write
		for _, item := range d.items(t, region, table) {
			writes = append(writes, dynamo.Write{Delete: dynamo.Read(item).Key()})
		}
		if err := d.tables[region].BatchWrite(t.Context(), table, writes); err != nil {
			t.Fatal(err)
		}
		if n := len(d.items(t, region, table)); n != 0 {
			t.Fatalf("%d items of %s are left", n, table)
		}
	}
}

// restore puts a backup's items into a region's table.
func (d *drill) restore(t *testing.T, region, table string, items []dynamo.Item) {
	t.Helper()
	writes := make([]dynamo.Write, len(items))
	for i := range items {
		writes[i].Put = items[i]
	}
	if err := d.tables[region].BatchWrite(t.Context(), table, writes); err != nil {
		t.Fatal(err)
	}
}

func (d *drill) each(t *testing.T, regions string, do func(*rig.Instance) error) {
	t.Helper()
	for _, i := range d.Instances {
		if strings.Contains(regions, i.Region) {
			if err := do(i); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const everywhere = rig.EU + " " + rig.US

// kept is a value that was acknowledged under a token.
type kept struct{ token, value, subject string }

// people are values of n subjects each.
func people(typ, who string, n int) []client.TokenizeItem {
	items := make([]client.TokenizeItem, n)
	for i := range items {
		items[i] = client.TokenizeItem{Type: typ, Value: fmt.Sprintf("%s%d@example.com", who, i), SubjectID: fmt.Sprintf("%s%d", who, i)}
	}
	return items
}

func (d *drill) keep(t *testing.T, region string, items []client.TokenizeItem) []kept {
	t.Helper()
	answer, err := d.at(t, region).Tokenize(t.Context(), "", client.TokenizeRequest{Items: items})
	if err != nil {
		t.Fatalf("tokenize in %s: %v", region, err)
	}
	list := make([]kept, len(items))
	for i := range items {
		list[i] = kept{answer.Items[i].Token, items[i].Value, items[i].SubjectID}
	}
	return list
}

func tokensOf(list []kept) []string {
	tokens := make([]string, len(list))
	for i := range list {
		tokens[i] = list[i].token
	}
	return tokens
}

func request(list []kept) client.DetokenizeRequest {
	req := client.DetokenizeRequest{Purpose: "drill"}
	for _, k := range list {
		req.Items = append(req.Items, client.DetokenizeItem{Token: k.token})
	}
	return req
}

// wantOpen: every token opens to its value in these regions (G1, G2).
func (d *drill) wantOpen(t *testing.T, regions string, list []kept) {
	t.Helper()
	mismatches := 0
	for region := range strings.FieldsSeq(regions) {
		for batch := range slices.Chunk(list, 100) {
			answer, err := d.at(t, region).Detokenize(t.Context(), request(batch))
			if err != nil {
				t.Errorf("%s: tokens that must open: %v", region, err)
				continue
			}
			for i := range batch {
				if answer.Items[i].Value != batch[i].value {
					mismatches++
				}
			}
		}
	}
	if mismatches != 0 {
		t.Errorf("%d mismatches", mismatches)
	}
}

// wantRefused: every token is answered so in these regions.
func (d *drill) wantRefused(t *testing.T, regions, how string, list []kept) {
	t.Helper()
	for region := range strings.FieldsSeq(regions) {
		for _, k := range list {
			if _, err := d.at(t, region).Detokenize(t.Context(), request([]kept{k})); outcome(err) != how {
				t.Errorf("%s: a token that must not open: %s, not %s", region, outcome(err), how)
			}
		}
	}
}

// outcome is what a client was told: a status and a stable code.
func outcome(err error) string {
	refusal, ok := err.(*client.Error) //nolint:errorlint // it is not wrapped
	switch {
	case err == nil:
		return "200"
	case ok:
		return fmt.Sprintf("%d %s", refusal.Status, refusal.Code)
	default:
		return "no answer"
	}
}

// erase erases tokens and subjects in a region, and waits until every region has confirmed.
func (d *drill) erase(t *testing.T, region string, tokens []kept, subjects ...string) {
	t.Helper()
	c := d.at(t, region)
	calls := []func() (client.EraseResponse, error){func() (client.EraseResponse, error) { return c.Erase(t.Context(), tokensOf(tokens)...) }}
	for _, subject := range subjects {
		calls = append(calls, func() (client.EraseResponse, error) { return c.EraseSubject(t.Context(), subject) })
	}
	for _, call := range calls {
		begun, err := call()
		if err != nil {
			t.Fatal(err)
		}
		poll(t, "the erasure in every region", patience, func() bool {
			answer, err := c.EraseStatus(t.Context(), begun.Job)
			if err != nil {
				t.Fatal(err)
			}
			return answer.Complete
		})
	}
}

// patience is how long anything that must happen may take on a busy machine.
const patience = time.Minute

// poll asks until ok says so, less often than rig.Eventually, and less often
// where there is more: each time is a request, some are audited, and some count
// records, for which DynamoDB Local goes through its whole table.
func poll(t *testing.T, what string, patience time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(min(250*time.Millisecond+time.Duration(*fields)*time.Millisecond, 5*time.Second))
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}
