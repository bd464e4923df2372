package embedded_test

import (
	"testing"

	"piivault/internal/audit"
	"piivault/internal/audit/embedded"
	"piivault/internal/wal"
)

// A query goes on behind one second that has more rows than a call goes through.
func TestAQueryGetsPastABusySecond(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	add(t, l, "x")
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	row := embedded.ActorRows(l.Name(), "t", "key_1", embedded.Claimed{Time: 5000, Index: 5000})[0]
	others := make([]byte, 8+10*(embedded.MaxScanned*3/2/10)) // postings of another value
	if err := tab.Engine.SetLocalBatch([]wal.KV{{Key: row.Key, Value: others}}); err != nil {
		t.Fatal(err)
	}
	q := audit.Query{Tenant: "t", Actor: "key_1", Limit: 1}
	page, next, err := l.Query(t.Context(), q)
	if err != nil || len(page) != 0 || next == "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
	q.Cursor = next
	if page, next, err = l.Query(t.Context(), q); err != nil || len(page) != 1 || next != "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
}
