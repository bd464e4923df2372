package audit_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"piivault/internal/audit"
)

func outcomes() []audit.Outcome {
	return []audit.Outcome{
		audit.Authorized, audit.Denied, audit.NotFound, audit.NotYetVisible, audit.Expired, audit.Erased,
		audit.OverBudget, audit.Failed, audit.CopyUsed,
	}
}

// typical is an entry as a detokenize makes it.
func typical() audit.Entry {
	return audit.Entry{
		Time: 1767225600123, RequestID: "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", Tenant: "t_3q2x9v", Actor: "key_8fJ2kQ",
		Authentication: "api_key", Action: "detokenize", Record: strings.Repeat("r", 43), Type: "email",
		Subject: strings.Repeat("s", 43), Purpose: "support", Ticket: "CASE-1042", Reveal: "plain", Decision: "allow",
		Policies: []string{"reader"}, PolicySet: strings.Repeat("p", 43), Region: "eu-west-1",
		DataKey: strings.Repeat("d", 22), Copies: []string{"eu-west-1", "us-east-1"}, Client: "192.0.2.17:51234",
		Outcome: audit.Authorized,
	}
}

func anyEntry(t *rapid.T) audit.Entry {
	text := rapid.StringN(-1, -1, 40)
	list := rapid.SliceOfN(text, 0, 4)
	some := func(name string) []string {
		if l := list.Draw(t, name); len(l) > 0 {
			return l
		}
		return nil
	}
	e := audit.Entry{
		Time: rapid.Int64().Draw(t, "time"), Generation: rapid.Uint32().Draw(t, "generation"),
		RequestID: text.Draw(t, "request"), Tenant: text.Draw(t, "tenant"), Actor: text.Draw(t, "actor"),
		Authentication: text.Draw(t, "authentication"), Action: text.Draw(t, "action"), Record: text.Draw(t, "record"),
		Type: text.Draw(t, "type"), Subject: text.Draw(t, "subject"), Purpose: text.Draw(t, "purpose"),
		Ticket: text.Draw(t, "ticket"), Reveal: text.Draw(t, "reveal"), Decision: text.Draw(t, "decision"),
		Policies: some("policies"), PolicySet: text.Draw(t, "set"), Budget: text.Draw(t, "budget"),
		Region: text.Draw(t, "region"), DataKey: text.Draw(t, "key"), Copies: some("copies"),
		Client: text.Draw(t, "client"), Outcome: rapid.SampledFrom(outcomes()).Draw(t, "outcome"),
	}
	if rapid.Bool().Draw(t, "follows up") {
		log := audit.LogName{Region: "r", Instance: "i", Epoch: rapid.Uint64Min(1).Draw(t, "epoch")}
		e.About = &audit.Ref{Log: log.String(), Index: rapid.Uint64().Draw(t, "index")}
	}
	return e
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyEntry(t)
		b, err := audit.AppendEntry([]byte("before"), &want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := audit.DecodeEntry(b[len("before"):])
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v: %s", err, diff)
		}
	})
}

func TestInvalidEntriesAreRefusedWithoutRepeatingThem(t *testing.T) {
	const canary = "canary"
	long := strings.Repeat(canary, audit.MaxString/len(canary)+1)
	many := make([]string, audit.MaxList)
	for i := range many {
		many[i] = long[:audit.MaxString]
	}
	for name, change := range map[string]func(*audit.Entry){
		"long string":     func(e *audit.Entry) { e.Ticket = long },
		"not UTF-8":       func(e *audit.Entry) { e.Purpose = canary + "\xff" },
		"long list":       func(e *audit.Entry) { e.Policies = make([]string, audit.MaxList+1) },
		"long in a list":  func(e *audit.Entry) { e.Copies = []string{long} },
		"unknown outcome": func(e *audit.Entry) { e.Outcome = canary },
		"no outcome":      func(e *audit.Entry) { e.Outcome = "" },
		"about no log":    func(e *audit.Entry) { e.About = &audit.Ref{Log: canary} },
		"large":           func(e *audit.Entry) { e.Policies = many },
	} {
		e := typical()
		change(&e)
		b, err := audit.AppendEntry(nil, &e)
		if !errors.Is(err, audit.ErrEntry) || len(b) != 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats what was refused: %v", name, err)
		}
		var l audit.Leaves
		if err := l.Encode([]audit.Entry{typical(), e}); !errors.Is(err, audit.ErrEntry) {
			t.Errorf("%s in a batch: %v", name, err)
		}
	}
	var l audit.Leaves
	if err := l.Encode(nil); !errors.Is(err, audit.ErrEntry) {
		t.Errorf("no entries: %v", err)
	}
}

// A stored encoding is the only one of what it says.
func FuzzDecodeEntry(f *testing.F) {
	v := readVectors(f)
	for _, e := range v.Entries {
		f.Add(unhex(f, e.Hex))
	}
	for _, bad := range v.BadEntries {
		f.Add(unhex(f, bad.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.DecodeEntry(b)
		if err != nil {
			return
		}
		if again, err := audit.AppendEntry(nil, &e); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x decodes, but encodes as %x, %v", b, again, err)
		}
	})
}

func FuzzDecodeClaim(f *testing.F) {
	v := readVectors(f)
	for _, c := range v.Claims {
		f.Add(unhex(f, c.Hex))
	}
	for _, bad := range v.BadClaims {
		f.Add(unhex(f, bad.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := audit.DecodeClaim(b)
		if err != nil {
			return
		}
		if again, err := audit.AppendClaim(nil, &c); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x decodes, but encodes as %x, %v", b, again, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	entries := []audit.Entry{typical()}
	b.ReportAllocs()
	for b.Loop() {
		var l audit.Leaves
		if err := l.Encode(entries); err != nil {
			b.Fatal(err)
		}
	}
	leaf, _ := audit.AppendEntry(nil, &entries[0])
	b.ReportMetric(float64(len(leaf)), "B/entry")
}

func BenchmarkDecode(b *testing.B) {
	e := typical()
	leaf, _ := audit.AppendEntry(nil, &e)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := audit.DecodeEntry(leaf); err != nil {
			b.Fatal(err)
		}
	}
}
