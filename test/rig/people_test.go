package rig_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/sim/rig"
	"piivault/internal/sim/streams"
)

// peopleTypes are a type per field, and one whose tokens are deterministic.
const peopleTypes = `types:
  - {name: name, kind: name}
  - {name: email, kind: email}
  - {name: phone, kind: phone}
  - {name: date_of_birth, kind: date_of_birth}
  - {name: address, kind: address}
  - {name: card_number, kind: card_number}
  - {name: ip, kind: ip}
  - {name: ssn, kind: ssn}
  - {name: iban, kind: iban}
  - {name: known_email, kind: email, token: deterministic, accept_guessing: true}
`

// batchSize is what detokenize takes at once.
const batchSize = 100

// field is one of a person's, with what became of it.
type field struct {
	person int
	name   string
	item   client.TokenizeItem
	token  string
	value  string // as it came back
}

func readPeople(t *testing.T) (people []map[string]string, fields []field) {
	t.Helper()
	f, err := os.Open(*peopleFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // read only
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var person map[string]string
		if err := json.Unmarshal(lines.Bytes(), &person); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"name", "email", "phone", "date_of_birth", "address", "card_number", "ip", "ssn", "iban"} {
			if person[name] == "" {
				continue
			}
			item := client.TokenizeItem{Type: name, Value: person[name], SubjectID: person["customer_id"]}
			if name == "phone" {
				item.Country = person["country"]
			}
			fields = append(fields, field{person: len(people), name: name, item: item})
		}
		people = append(people, person)
	}
	if err := lines.Err(); err != nil || len(people) == 0 {
		t.Fatalf("%d people, %v", len(people), err)
	}
	return people, fields
}

// seen counts what readers in the other region were told.
type seen struct {
	mu    sync.Mutex // guards codes
	codes map[string]int
}

func (s *seen) add(err error, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[outcome(err)] += n
}

// The main job: people in through one region and out through the other at
// once, while what was written arrives there late, out of order, and for a
// while not at all. No token just handed out is unknown, no value another
// (G1); afterwards both regions hold the same, and every value that left has
// its entry (G6).
func TestPeopleWhileReplicationLags(t *testing.T) {
	t.Parallel()
	r := newRig(t, rig.Config{
		Orders: streams.Orders{Delay: 300 * time.Millisecond, Jitter: 700 * time.Millisecond, Coalesce: true},
		More:   peopleTypes + "prefetch: {max_keys: 0}\n", // a key made ahead has all copies
	})
	people, fields := readPeople(t)
	batches := slices.Collect(slices.Chunk(fields, batchSize))
	told := &seen{codes: map[string]int{}}
	released := &releases{}
	began := time.Now()
	for n, batch := range batches {
		switch n {
		case len(batches) / 3:
			r.Replicator.Partition(true)
		case 2 * len(batches) / 3:
			r.Replicator.Partition(false)
		}
		key := ""
		if n%2 == 1 { // a token that names no region: it may have been made in any
			key = client.NewIdempotencyKey()
		}
		to, from := r.In(rig.EU)[n%2], r.In(rig.US)[n%2]
		keepBatch(t, to, key, batch)
		if n%8 == 1 {
			sameTokens(t, from, key, batch)
		}
		told.add(readBatch(t, from, batch, released), len(batch))
	}
	took := time.Since(began)
	compare(t, people, fields)
	r.Settle(t)
	for n, batch := range batches {
		if err := readBatch(t, r.In(rig.US)[n%2], batch, released); err != nil {
			t.Errorf("after replication: %v", err)
		}
	}
	compare(t, people, fields)
	released.check(t, r)
	t.Logf("%d people, %d fields in through %s and out through %s in %.1f s while replication lags: told there %v",
		len(people), len(fields), rig.EU, rig.US, took.Seconds(), told.codes)
	t.Run("unreachable", func(t *testing.T) { unreachable(t, r) })
	t.Run("deterministic", func(t *testing.T) { deterministic(t, r) })
	t.Run("erasure", func(t *testing.T) { erasure(t, r) })
	t.Run("degraded", func(t *testing.T) { degraded(t, r) })
}

func keepBatch(t *testing.T, to *rig.Instance, key string, batch []field) {
	t.Helper()
	items := make([]client.TokenizeItem, len(batch))
	for i := range batch {
		items[i] = batch[i].item
	}
	var answer client.TokenizeResponse
	err := patiently(func() (err error) {
		answer, err = to.Client(t).Tokenize(t.Context(), key, client.TokenizeRequest{Items: items})
		return err
	})
	if err != nil {
		t.Fatalf("tokenize: %v", err)
	}
	for i := range batch {
		batch[i].token = answer.Items[i].Token
	}
}

// patiently asks again where the contract says so: DynamoDB Local serves both
// regions and stops to collect its garbage, and 5,000 people are a lot for it.
func patiently(ask func() error) (err error) {
	for range 5 {
		if err = ask(); !strings.HasPrefix(outcome(err), "503 ") {
			return err
		}
	}
	return err
}

// sameTokens: a retry in the other region, which has nothing of it yet.
func sameTokens(t *testing.T, to *rig.Instance, key string, batch []field) {
	t.Helper()
	again := slices.Clone(batch)
	keepBatch(t, to, key, again)
	for i := range batch {
		if batch[i].token != again[i].token {
			t.Error("a retry in the other region gave another token")
		}
	}
}

func tokensOf(batch []field) []string {
	tokens := make([]string, len(batch))
	for i := range batch {
		tokens[i] = batch[i].token
	}
	return tokens
}

func readBatch(t *testing.T, from *rig.Instance, batch []field, released *releases) error {
	t.Helper()
	var answer client.DetokenizeResponse
	err := patiently(func() (err error) {
		answer, err = from.Client(t).Detokenize(t.Context(), reveal(tokensOf(batch)))
		return err
	})
	if err != nil {
		return err
	}
	for i := range batch {
		if got := answer.Items[i]; got.Status != client.ItemStatusOk || got.Value == "" {
			t.Errorf("person %d, %s: status %q, a value of %d bytes", batch[i].person, batch[i].name, got.Status, len(got.Value))
		}
		batch[i].value = answer.Items[i].Value
	}
	released.add(from.Region, "rig", answer)
	return nil
}

// compare holds what came back against what Python says must: no more is
// known here of what a value becomes.
func compare(t *testing.T, people []map[string]string, fields []field) {
	t.Helper()
	rows := make([]map[string]string, len(people))
	for i, person := range people {
		rows[i] = map[string]string{"customer_id": person["customer_id"]}
	}
	for i := range fields {
		rows[fields[i].person][fields[i].name] = fields[i].value
	}
	defer func() {
		for i := range fields {
			fields[i].value = ""
		}
	}()
	var text strings.Builder
	for _, row := range rows {
		line, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	file := filepath.Join(t.TempDir(), "plain.jsonl")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "python3", "../expect/normalize.py", *peopleFile, "--compare", file).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "mismatches 0\n") {
		for i := range fields {
			if f := &fields[i]; strings.Contains(string(out), fmt.Sprintf("mismatch: %s %s\n", f.item.SubjectID, f.name)) {
				t.Logf("%s: %q became %q (the people are invented)", f.item.SubjectID, f.item.Value, f.value)
			}
		}
		t.Fatalf("%v: %s", err, out)
	}
}

// unreachable: of a token that has not arrived, whose region does not answer,
// a client is told to come back, and not that there is none.
func unreachable(t *testing.T, r *rig.Rig) {
	t.Helper()
	r.Replicator.Partition(true)
	tokens := tokenize(t, r.In(rig.EU)[0].Client(t), "", emails("unreachable", 2))
	reader := r.In(rig.US)[0]
	r.Fault(rig.Where{Instance: reader.Name, Region: rig.EU, Service: rig.DynamoDB}, rig.Fault{Mode: rig.Refuse})
	if _, err := reader.Client(t).Detokenize(t.Context(), reveal(tokens)); outcome(err) != "503 not_yet_visible" {
		t.Errorf("a token out of reach: %s", outcome(err))
	}
	r.Fault(rig.Where{}, rig.Fault{})
	detokenize(t, reader.Client(t), tokens) // looked up where it was made
	r.Replicator.Partition(false)
}

// deterministic: two regions that know nothing of each other give a value the
// same token, and each opens what the other wrote.
func deterministic(t *testing.T, r *rig.Rig) {
	t.Helper()
	r.Replicator.Partition(true)
	items := []client.TokenizeItem{{Type: "known_email", Value: "ann@example.com", SubjectID: "ann"}}
	tokens := tokenize(t, r.In(rig.EU)[0].Client(t), "", items)
	items[0].SubjectID = "bob"
	if again := tokenize(t, r.In(rig.US)[1].Client(t), "", items); again[0] != tokens[0] {
		t.Error("a value has two tokens")
	}
	r.Replicator.Partition(false)
	r.Settle(t)
	for _, i := range r.Instances {
		if answer := detokenize(t, i.Client(t), tokens); answer.Items[0].Value != "ann@example.com" {
			t.Errorf("%s opens another value", i.Name)
		}
	}
}

// erasure: what one region erases while it has not seen it is gone in both,
// in whatever order records, tombstones and jobs travel (G9).
func erasure(t *testing.T, r *rig.Rig) {
	t.Helper()
	r.Replicator.Partition(true)
	eu, us := r.In(rig.EU)[0].Client(t), r.In(rig.US)[0].Client(t)
	items := emails("erased", 20)
	for i := range items {
		items[i].SubjectID = []string{"by-token", "by-subject"}[i%2]
	}
	tokens := tokenize(t, eu, "", items)
	known := tokenize(t, eu, "", []client.TokenizeItem{{Type: "known_email", Value: "gone@example.com", SubjectID: "by-subject"}})
	kept := tokenize(t, eu, "", emails("kept", 10))
	var byToken []string
	for i := 0; i < len(tokens); i += 2 {
		byToken = append(byToken, tokens[i])
	}
	if _, err := us.Erase(t.Context(), byToken...); err != nil {
		t.Fatal(err)
	}
	begun, err := us.EraseSubject(t.Context(), "by-subject")
	if err != nil {
		t.Fatal(err)
	}
	r.Replicator.Partition(false)
	rig.Eventually(t, "the erasure in every region", func() bool {
		answer, err := us.EraseStatus(t.Context(), begun.Job)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Complete
	})
	r.Settle(t)
	for _, i := range r.Instances {
		for _, token := range append(slices.Clone(tokens), known...) {
			if _, err := i.Client(t).Detokenize(t.Context(), reveal([]string{token})); outcome(err) != "404 not_found" {
				t.Errorf("%s: an erased token: %s", i.Name, outcome(err))
			}
		}
		detokenize(t, i.Client(t), kept)
	}
	again := tokenize(t, us, "", []client.TokenizeItem{{Type: "known_email", Value: "gone@example.com", SubjectID: "by-subject"}})
	if again[0] != known[0] {
		t.Error("a value that was erased got another token")
	}
	if answer := detokenize(t, eu, again); answer.Items[0].Value != "gone@example.com" {
		t.Error("a new generation opens another value")
	}
}

// degraded: with a region's KMS down, writes are taken and say what they lack;
// when it is back they are repaired unasked, so that they survive the loss of
// the KMS that wrote them (G2, G3).
func degraded(t *testing.T, r *rig.Rig) {
	t.Helper()
	for n, down := range []string{rig.US, rig.EU} { // the remote one, then the local
		eu := r.In(rig.EU)[n%2].Client(t)
		r.Fault(rig.Where{Service: rig.KMS, Region: down}, rig.Fault{Mode: rig.Refuse})
		answer, err := eu.Tokenize(t.Context(), "", client.TokenizeRequest{Items: emails("degraded-"+down, 30)})
		if err != nil {
			t.Fatalf("with the KMS of %s down: %v", down, err)
		}
		var tokens []string
		for _, item := range answer.Items {
			tokens = append(tokens, item.Token)
			if !slices.Equal(item.KeyCopies.Missing, []string{down}) {
				t.Errorf("a record written without %s lacks %v", down, item.KeyCopies.Missing)
			}
		}
		detokenize(t, eu, tokens)
		r.Fault(rig.Where{}, rig.Fault{})
		began := time.Now()
		rig.Eventually(t, "the missing copies", func() bool {
			inspected, err := eu.Inspect(t.Context(), tokens...)
			if err != nil {
				t.Fatal(err)
			}
			return !slices.ContainsFunc(inspected.Items, func(i client.InspectedItem) bool { return len(i.KeyCopies.Missing) > 0 })
		})
		t.Logf("%d records written without the KMS of %s: whole %.1f s after it was back", len(tokens), down, time.Since(began).Seconds())
		r.Settle(t)
		other := map[string]string{rig.US: rig.EU, rig.EU: rig.US}[down]
		r.Fault(rig.Where{Service: rig.KMS, Region: other}, rig.Fault{Mode: rig.Refuse})
		for i, item := range detokenize(t, r.In(rig.US)[0].Client(t), tokens).Items {
			if item.Value != emails("degraded-"+down, 30)[i].Value {
				t.Error("a repaired record opens another value")
			}
		}
		r.Fault(rig.Where{}, rig.Fault{})
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
