package bulk_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"piivault/cmd/vault/internal/bulk"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(0, 0)
	l := bulk.NewLines(&out, func() time.Time { return clock }, 5*time.Second)
	l.Update(bulk.Status{Counts: bulk.Counts{Rows: 1000}, Done: 1000, Total: 100_000}) // a resumed run begins here
	for range 12 {
		clock = clock.Add(time.Second)
		rows := 1000 + clock.Unix()*250
		l.Update(bulk.Status{Counts: bulk.Counts{Rows: rows, Refused: 2}, Done: rows, Total: 100_000})
	}
	clock = clock.Add(5 * time.Second)
	l.Waiting("the vault answered 503 unavailable", 2*time.Second)
	l.Waiting("the vault answered 503 unavailable", 2*time.Second)
	clock = clock.Add(5 * time.Second)
	l.Update(bulk.Status{Counts: bulk.Counts{Rows: 6500}, Done: 6500})
	l.Close()
	want := `2,250 rows, 2 refused, 250 rows/s, 2 % done, 6m31s left
3,500 rows, 2 refused, 250 rows/s, 3 % done, 6m26s left
the vault answered 503 unavailable; trying again in 2s
6,500 rows, 0 refused, 250 rows/s
`
	if out.String() != want {
		t.Errorf("lines\n%s", out.String())
	}
}

func TestBarShowsRowsAndLeavesNothing(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(0, 0)
	b := bulk.NewBar(&out, "tokenized", func() time.Time { return clock })
	b.Update(bulk.Status{Counts: bulk.Counts{Rows: 345}})
	clock = clock.Add(2 * time.Second)
	b.Update(bulk.Status{Counts: bulk.Counts{Rows: 12345, Refused: 6}, Done: 50, Total: 100})
	b.Update(bulk.Status{Done: 99, Total: 100}) // too soon
	b.Waiting("the vault answered 503 unavailable", 2*time.Second)
	if got := out.String(); !strings.Contains(got, "12,345 rows, 6 refused, 6,000 rows/s") || !strings.Contains(got, "50%") || strings.Contains(got, "99%") || !strings.Contains(got, "trying again in 2s") {
		t.Errorf("bar %q", got)
	}
	b.Close()
	if i := strings.LastIndex(out.String(), "\r"); strings.TrimSpace(out.String()[i:]) != "" {
		t.Errorf("it left %q", out.String()[i:])
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 100000: "100,000"} {
		if got := bulk.Count(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}
