package drills_test

import (
	"slices"
	"testing"

	"piivault/client"
	"piivault/internal/sim/rig"
)

// A whole region is out: its instances, its KMS, its tables. The other goes on
// with all that it has, says what it cannot know and what is incomplete, and
// everything is made whole when the region is back (G1, G2, G3, G9).
func TestRegionIsOut(t *testing.T) {
	t.Parallel()
	d := newDrill(t, rig.Config{PerRegion: 1, More: quiet})
	before := d.keep(t, rig.EU, people("email", "a", 20))
	known := d.keep(t, rig.EU, people("known_email", "k", 2))
	d.Settle(t)
	d.Replicator.Partition(true)
	tail := d.keep(t, rig.EU, people("email", "tail", 3))
	d.each(t, rig.EU, (*rig.Instance).Kill)
	d.Fault(rig.Where{Region: rig.EU}, rig.Fault{Mode: rig.Refuse})

	us := d.at(t, rig.US)
	d.wantOpen(t, rig.US, slices.Concat(before, known))
	d.wantRefused(t, rig.US, "503 not_yet_visible", tail)
	during := d.wantMissing(t, rig.US, people("email", "b", 10), rig.EU)
	d.wantOpen(t, rig.US, during)
	answer, err := us.EraseSubject(t.Context(), "k0")
	if err != nil || answer.Complete || answer.Erased != 1 {
		t.Errorf("an erasure: %+v, %v", answer, err)
	}
	d.wantRefused(t, rig.US, "503 not_yet_visible", known[:1]) // as of any token that may be there
	if _, err := us.Tokenize(t.Context(), "", client.TokenizeRequest{Items: people("known_email", "k", 1)}); outcome(err) != "409 erasing" {
		t.Errorf("of a subject under erasure: %s", outcome(err))
	}
	key, err := us.CreateKey(t.Context(), client.CreateKeyRequest{Name: "during", Roles: []string{"writer"}})
	if err != nil || !slices.Equal(key.NotReached, []string{rig.EU}) {
		t.Errorf("a key reached all but %v, %v", key.NotReached, err)
	}
	d.wantCoverage(t, len(during))

	d.Fault(rig.Where{}, rig.Fault{})
	d.Replicator.Partition(false)
	d.each(t, rig.EU, (*rig.Instance).Start)
	poll(t, "the erasure in every region", patience, func() bool {
		status, err := us.EraseStatus(t.Context(), answer.Job)
		if err != nil {
			t.Fatal(err)
		}
		return status.Complete
	})
	poll(t, "whole records", patience, func() bool { return d.missing(t, rig.US, during) == 0 })
	d.Settle(t)
	d.wantOpen(t, everywhere, slices.Concat(before, known[1:], tail, during))
	d.wantRefused(t, everywhere, "404 not_found", known[:1])
	d.wantCoverage(t, 0)
}

// wantMissing keeps values, whose records say that one region's copy is missing.
func (d *drill) wantMissing(t *testing.T, region string, items []client.TokenizeItem, missing string) []kept {
	t.Helper()
	list := d.keep(t, region, items)
	if n := d.missing(t, region, list); n != len(list) {
		t.Errorf("%d of %d records lack the copy of %s", n, len(list), missing)
	}
	return list
}

// missing counts the records that lack a copy.
func (d *drill) missing(t *testing.T, region string, list []kept) (n int) {
	t.Helper()
	for batch := range slices.Chunk(list, 100) {
		answer, err := d.at(t, region).Inspect(t.Context(), tokensOf(batch)...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range answer.Items {
			if len(answer.Items[i].KeyCopies.Missing) > 0 {
				n++
			}
		}
	}
	return n
}

// wantCoverage: so many records could not be read without the region US.
func (d *drill) wantCoverage(t *testing.T, want int) {
	t.Helper()
	answer, err := d.at(t, rig.US).Coverage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range answer.Regions {
		if want == 0 && (r.MissingCopies != 0 || r.UnreadableIfLost != 0) || want != 0 && r.Name == rig.EU && r.MissingCopies != int64(want) {
			t.Errorf("coverage of %s: %+v, %d records are degraded", r.Name, r, want)
		}
	}
}
