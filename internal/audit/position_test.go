package audit_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/audit"
)

func anyPosition(t *rapid.T, label string) audit.Position {
	return audit.Position{
		Time: rapid.OneOf(rapid.Int64(), rapid.Int64Range(-2, 2)).Draw(t, label+" time"),
		Log: audit.LogName{
			Region:   rapid.SampledFrom([]string{"a", "a-b", "ab"}).Draw(t, label+" region"),
			Instance: rapid.SampledFrom([]string{"i", "i.1", "i-1"}).Draw(t, label+" instance"),
			Epoch:    rapid.Uint64Range(1, 300).Draw(t, label+" epoch"),
		},
		Index: rapid.Uint64().Draw(t, label+" index"),
	}
}

func TestPositionKeysSortAsPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := anyPosition(t, "p"), anyPosition(t, "q")
		got := bytes.Compare(p.AppendKey(nil), q.AppendKey(nil))
		same := p.Log.Region == q.Log.Region && p.Log.Instance == q.Log.Instance
		want := cmp.Compare(p.Time, q.Time)
		if want == 0 && same {
			want = cmp.Or(cmp.Compare(p.Log.Epoch, q.Log.Epoch), cmp.Compare(p.Index, q.Index))
		}
		if want != 0 && got != want || p == q && got != 0 || p.Compare(q) != got {
			t.Fatalf("%+v and %+v sort %d and compare %d, want %d", p, q, got, p.Compare(q), want)
		}
		if before := (audit.Position{Time: p.Time}); before.Compare(p) != -1 || before.Compare(q) > max(0, cmp.Compare(p.Time, q.Time)) {
			t.Fatalf("%+v is not before %+v", before, p)
		}
		if back, err := audit.ParsePosition(p.AppendKey(nil)); err != nil || back != p {
			t.Fatalf("%+v, %v", back, err)
		}
	})
}

func TestLogNames(t *testing.T) {
	part := strings.Repeat("x", 63)
	for _, good := range []string{"eu-west-1/vault-a/1", "r/i/18446744073709551615", part + "/A.b_c-9/7"} {
		if n, err := audit.ParseLogName(good); err != nil || n.String() != good {
			t.Errorf("%q: %v, %v", good, n, err)
		}
	}
	for _, bad := range []string{
		"", "/", "//", "r/i", "r/i/", "r/i/0", "r/i/01", "r/i/+1", "r/i/-1", "r/i/1/", "r//1", "/i/1", "r/i/18446744073709551616",
		"r /i/1", "r/é/1", "r/i\x00/1", part + "x/i/1", "r/i/1 ",
	} {
		if n, err := audit.ParseLogName(bad); !errors.Is(err, audit.ErrName) {
			t.Errorf("%q: %v, %v", bad, n, err)
		}
	}
}

func TestCursor(t *testing.T) {
	q := audit.Query{Tenant: "t", Actor: "a", Limit: 10, From: 5}
	want := audit.Position{Time: 7, Log: testName(), Index: 9}
	good := q.EncodeCursor(want)
	q.Cursor = good
	q.Limit = 20 // another page size goes on with the same cursor
	if p, ok, err := q.After(); err != nil || !ok || p != want {
		t.Fatalf("%+v, %v, %v", p, ok, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for name, bad := range map[string]string{
		"not base64":    "!" + good,
		"padded":        good + "=",
		"truncated":     encode(raw[:len(raw)-1]),
		"trailing byte": encode(append(slices.Clone(raw), 0)),
		"version":       encode(append([]byte{2}, raw[1:]...)),
		"filters":       encode(append([]byte{raw[0], raw[1] ^ 1}, raw[2:]...)),
		"no position":   encode(raw[:9]),
		"half a time":   encode(raw[:13]),
		"time and more": encode(raw[:18]),
		"line break":    good[:4] + "\n" + good[4:],
	} {
		q.Cursor = bad
		if err := q.Validate(); !errors.Is(err, audit.ErrCursor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*audit.Query){
		"tenant": func(q *audit.Query) { q.Tenant = "u" }, "actor": func(q *audit.Query) { q.Actor = "" },
		"purpose": func(q *audit.Query) { q.Purpose = "p" }, "outcome": func(q *audit.Query) { q.Outcome = audit.Denied },
		"from": func(q *audit.Query) { q.From = 6 }, "to": func(q *audit.Query) { q.To = 6 },
	} {
		other := q
		other.Cursor = good
		change(&other)
		if err := other.Validate(); !errors.Is(err, audit.ErrCursor) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestQueryLimits(t *testing.T) {
	for _, limit := range []int{-1, 0, audit.MaxLimit + 1} {
		q := audit.Query{Limit: limit}
		if err := q.Validate(); !errors.Is(err, audit.ErrQuery) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	q := audit.Query{Tenant: "t", Limit: 1}
	f.Add(q.EncodeCursor(audit.Position{Time: 7, Log: testName(), Index: 9}))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, cursor string) {
		q := audit.Query{Tenant: "t", Limit: 1, Cursor: cursor}
		if p, ok, err := q.After(); err == nil && ok && q.EncodeCursor(p) != cursor {
			t.Errorf("%q is a second spelling of %+v", cursor, p)
		}
	})
}
