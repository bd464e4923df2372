package audit_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"piivault/internal/audit"
)

// vectors is testdata/vectors.json, which vectors.py builds from format.md
// without any of our code.
type vectors struct {
	Entries []struct {
		Entry     audit.Entry
		Hex, Leaf string
	}
	Claims []struct {
		Claim struct {
			Log, Nonce                   string
			Time                         int64
			PreviousBlocks, PreviousSize uint64
			PreviousRoot                 string
		}
		Hex string
	}
	Log struct {
		Name   string
		Groups [][]string
		Blocks []struct {
			Hex  string
			Size uint64
			Root string
		}
	}
	BadEntries, BadClaims, BadBlocks []struct{ Name, Hex string }
}

func readVectors(tb testing.TB) (v vectors) {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestEntryVectors(t *testing.T) {
	for i, v := range readVectors(t).Entries {
		got, err := audit.AppendEntry(nil, &v.Entry)
		if err != nil || hex.EncodeToString(got) != v.Hex {
			t.Errorf("entry %d: encoded as %x, %v; want %s", i, got, err, v.Hex)
		}
		if leaf := tlog.RecordHash(got); hex.EncodeToString(leaf[:]) != v.Leaf {
			t.Errorf("entry %d: leaf hash %x, want %s", i, leaf, v.Leaf)
		}
		e, err := audit.DecodeEntry(unhex(t, v.Hex))
		if diff := cmp.Diff(v.Entry, e); err != nil || diff != "" {
			t.Errorf("entry %d: decoded with %v: %s", i, err, diff)
		}
	}
}

func claims(tb testing.TB, v vectors) (all []audit.Claim) {
	tb.Helper()
	for _, c := range v.Claims {
		log, err := audit.ParseLogName(c.Claim.Log)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, audit.Claim{
			Log: log, Nonce: [audit.NonceSize]byte(unhex(tb, c.Claim.Nonce)), Time: c.Claim.Time,
			PreviousBlocks: c.Claim.PreviousBlocks, PreviousSize: c.Claim.PreviousSize,
			PreviousRoot: audit.Hash(unhex(tb, c.Claim.PreviousRoot)),
		})
	}
	return all
}

func TestClaimVectors(t *testing.T) {
	v := readVectors(t)
	for i, want := range claims(t, v) {
		got, err := audit.AppendClaim(nil, &want)
		if err != nil || hex.EncodeToString(got) != v.Claims[i].Hex {
			t.Errorf("claim %d: encoded as %x, %v", i, got, err)
		}
		c, err := audit.DecodeClaim(unhex(t, v.Claims[i].Hex))
		if err != nil || c != want {
			t.Errorf("claim %d: decoded as %+v, %v", i, c, err)
		}
	}
}

// blockVectors writes the log of the vectors, one block a group.
func blockVectors(tb testing.TB, v vectors) (blocks [][]byte, heads []audit.Head) {
	tb.Helper()
	log, err := audit.ParseLogName(v.Log.Name)
	if err != nil {
		tb.Fatal(err)
	}
	w := audit.NewWriter(log)
	for _, group := range v.Log.Groups {
		for _, leaf := range group {
			w.Add(vectorLeaves(tb, v, leaf))
		}
		w.Flush(func(_ uint64, b []byte) { blocks = append(blocks, append([]byte(nil), b...)) })
		heads = append(heads, w.Head())
	}
	return blocks, heads
}

func vectorLeaves(tb testing.TB, v vectors, what string) *audit.Leaves {
	tb.Helper()
	var kind string
	var i int
	if _, err := fmt.Sscan(what, &kind, &i); err != nil {
		tb.Fatal(err)
	}
	l := new(audit.Leaves)
	err := errors.New("unknown kind")
	switch kind {
	case "entry":
		err = l.Encode([]audit.Entry{v.Entries[i].Entry})
	case "claim":
		err = l.EncodeClaim(&claims(tb, v)[i])
	}
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestBlockVectors(t *testing.T) {
	v := readVectors(t)
	blocks, heads := blockVectors(t, v)
	if len(blocks) != len(v.Log.Blocks) {
		t.Fatalf("%d blocks, want %d", len(blocks), len(v.Log.Blocks))
	}
	for i, want := range v.Log.Blocks {
		if hex.EncodeToString(blocks[i]) != want.Hex {
			t.Errorf("block %d: %x, want %s", i, blocks[i], want.Hex)
		}
		if h := heads[i]; h.Size != want.Size || hex.EncodeToString(h.Root[:]) != want.Root {
			t.Errorf("head after block %d: %d, %x", i, h.Size, h.Root)
		}
		b, err := audit.ParseBlock(unhex(t, want.Hex))
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if after, err := b.Check(); err != nil || after.Size() != want.Size || b.Number != uint64(i) || b.Log.String() != v.Log.Name {
			t.Errorf("block %d: checked to %d, %v", i, after.Size(), err)
		}
	}
}

func TestBadVectorsAreRefused(t *testing.T) {
	v := readVectors(t)
	for _, bad := range v.BadEntries {
		if e, err := audit.DecodeEntry(unhex(t, bad.Hex)); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("entry, %s: %+v, %v", bad.Name, e, err)
		}
	}
	for _, bad := range v.BadClaims {
		if c, err := audit.DecodeClaim(unhex(t, bad.Hex)); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("claim, %s: %+v, %v", bad.Name, c, err)
		}
	}
	for _, bad := range v.BadBlocks {
		if b, err := audit.ParseBlock(unhex(t, bad.Hex)); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("block, %s: %+v, %v", bad.Name, b, err)
		}
	}
}
