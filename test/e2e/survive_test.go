package e2e

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/client"
	"piivault/internal/audit"
	auditembedded "piivault/internal/audit/embedded"
	authzembedded "piivault/internal/authz/embedded"
	"piivault/internal/sim"
	"piivault/internal/store"
	storeembedded "piivault/internal/store/embedded"
	"piivault/internal/wal"
)

// survivor is a directory that a script was torn out of.
type survivor struct {
	t    *testing.T
	dir  string
	fs   vfs.FS
	key  string
	acks []ack
}

// check asserts all that was promised to the script's client (G1, G6, G9).
func (s *survivor) check() {
	s.t.Helper()
	s.stored(false)
	s.answers()
	s.stored(true)
}

// stored looks at region A's tables below the vault.
func (s *survivor) stored(complete bool) {
	s.t.Helper()
	e, err := wal.Open(wal.Options{
		Dir: s.dir + "/" + regionA + "/data", FS: s.fs, Region: regionA, Outbox: true,
		Tables: []wal.Table{storeembedded.Table(), authzembedded.Table(), auditembedded.Table()},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	source := auditembedded.Stored{Engine: e}
	logs, err := audit.Verify(s.t.Context(), source)
	if err != nil {
		s.t.Fatalf("the audit log does not verify: %v", err)
	}
	entries := map[string]map[uint64]audit.Entry{}
	for _, log := range logs {
		entries[log.Log] = entriesOf(s.t, source, log.Log)
	}
	s.released(entries)
	s.nothingHalf(storeembedded.New(e), entries, complete)
}

func entriesOf(t *testing.T, source audit.Source, name string) map[uint64]audit.Entry {
	t.Helper()
	log, err := audit.ParseLogName(name)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[uint64]audit.Entry{}
	err = source.Blocks(t.Context(), log, func(_ uint64, block []byte) error {
		k, err := audit.ParseBlock(block)
		if err != nil {
			return err
		}
		for index, leaf := range k.Leaves() {
			if !audit.IsEntry(leaf) {
				continue
			}
			e, err := audit.DecodeEntry(leaf)
			if err != nil {
				return err
			}
			entries[index] = e
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// released: every value that left has its durable entry (G6).
func (s *survivor) released(entries map[string]map[uint64]audit.Entry) {
	s.t.Helper()
	for _, a := range s.acks {
		if a.Region != regionA {
			continue
		}
		for i := range a.Read {
			e, ok := entries[a.Audit.Log][uint64(a.Audit.FirstIndex)+uint64(i)]
			if !ok || e.Action != "detokenize" || e.Outcome != audit.Authorized || e.Purpose != "e2e" {
				s.t.Errorf("a value left and its entry is not there: %v, %s %s", ok, e.Action, e.Outcome)
			}
		}
	}
}

// nothingHalf: the records of the script's one subject are those that the
// audit log says were made, and a batch has all of its records or none.
func (s *survivor) nothingHalf(records store.Store, entries map[string]map[uint64]audit.Entry, complete bool) {
	s.t.Helper()
	made := map[store.Key]bool{}
	subject, tenant := "", ""
	for _, log := range entries {
		for _, e := range log {
			if e.Action != "tokenize" {
				continue
			}
			if e.Outcome != audit.Authorized {
				s.t.Errorf("a tokenize ended as %s", e.Outcome)
			}
			made[store.Key{Tenant: e.Tenant, ID: e.Record, Generation: e.Generation}] = true
			subject, tenant = e.Subject, e.Tenant
		}
	}
	var found []store.Key
	if len(made) > 0 {
		var err error
		if found, _, err = records.BySubject(s.t.Context(), tenant, subject, store.Page{Limit: 1000}); err != nil {
			s.t.Fatal(err)
		}
	}
	there := map[store.Key]bool{}
	for _, key := range found {
		there[key] = true
	}
	if !maps.Equal(made, there) {
		s.t.Errorf("%d records, and %d of which the audit log says that they were made", len(there), len(made))
	}
	sizes := []int{0, 1, 5, 6} // after the single one, the batch, the late one
	if complete {
		sizes = []int{4, 5, 6} // the batch was sent again
	}
	if !slices.Contains(sizes, len(there)) {
		s.t.Errorf("%d records: a batch is there in part", len(there))
	}
}

// answers asks the vault again, through HTTP, in both regions.
func (s *survivor) answers() {
	s.t.Helper()
	w, err := sim.Open(s.t.Context(), worldConfig(s.dir, s.fs))
	if err != nil {
		s.t.Fatalf("it does not open again: %v", err)
	}
	v, err := serve(w, contractOf(s.t).Handler)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := v.close(); err != nil {
			s.t.Error(err)
		}
	}()
	a, b := s.client(v, regionA), s.client(v, regionB)
	live := s.live(a)
	wantValues(s.t, a, live)
	s.audited(a)
	live = append(live, s.retryBatch(a)...)
	if err := w.Settle(context.WithoutCancel(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
	s.retryBatch(b)
	wantValues(s.t, b, live)
	for _, k := range s.acks {
		for _, token := range k.Gone {
			wantGone(s.t, a, token)
			wantGone(s.t, b, token)
		}
	}
}

func (s *survivor) client(v *serving, region string) *client.Client {
	s.t.Helper()
	c, err := v.client(region, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// live is what was acknowledged and not erased. What an unacknowledged
// erasure names may be there or not, but not otherwise.
func (s *survivor) live(a *client.Client) (live []kept) {
	s.t.Helper()
	gone := s.gone()
	for _, k := range s.acks {
		for _, v := range k.Kept {
			switch {
			case gone[v.Token]:
			case s.mayBeGone(v.Token) && isGone(s.t, a, v.Token):
			default:
				live = append(live, v)
			}
		}
	}
	return live
}

func (s *survivor) gone() map[string]bool {
	gone := map[string]bool{}
	for _, k := range s.acks {
		for _, token := range k.Gone {
			gone[token] = true
		}
	}
	return gone
}

// mayBeGone: the script goes on to erase its first token after the second read.
func (s *survivor) mayBeGone(token string) bool {
	reads := 0
	for _, k := range s.acks {
		if k.Step == "read" {
			reads++
		}
	}
	return reads >= 2 && token == s.acks[0].Kept[0].Token
}

func isGone(t *testing.T, c *client.Client, token string) bool {
	t.Helper()
	_, err := c.Detokenize(t.Context(), reveal(token))
	if err != nil && codeOf(err) != "not_found" {
		t.Errorf("a token that may be erased: %v", err)
	}
	return err != nil
}

// audited: the query finds the entry of every value that left region A (G6).
func (s *survivor) audited(a *client.Client) {
	s.t.Helper()
	for _, k := range s.acks {
		if k.Region != regionA {
			continue
		}
		for i, v := range k.Read {
			q := client.AuditQueryRequest{Token: v.Token, Action: "detokenize", Outcome: "authorized"}
			eventually(s.t, "the entry of a value that left", func() bool { // the index is written behind
				return slices.ContainsFunc(auditOf(s.t, a, q), func(e client.AuditEntry) bool {
					return e.Log == k.Audit.Log && e.Index == k.Audit.FirstIndex+int64(i)
				})
			})
		}
	}
}

// retryBatch sends the batch again: the same tokens, whatever became of it.
func (s *survivor) retryBatch(c *client.Client) []kept {
	s.t.Helper()
	var want []kept
	for _, k := range s.acks {
		if k.Step == "batch" {
			want = k.Kept
		}
	}
	for range 2 {
		answer, err := c.Tokenize(s.t.Context(), batchKey, client.TokenizeRequest{Items: batchItems()})
		if err != nil {
			s.t.Fatalf("the batch again: %v", err)
		}
		got := keptOf(batchItems(), answer)
		if want != nil && !slices.Equal(got, want) {
			s.t.Error("the batch again, with its Idempotency-Key: other tokens")
		}
		want = got
	}
	return want
}
