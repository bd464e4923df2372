package drills_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/sim/rig"
	"piivault/internal/sim/streams"
)

// quiet makes a drill's erasures quick, and its copies whole.
const quiet = "prefetch: {max_keys: 0}\n"

// replay runs the documented command and tells what it says it did.
func (d *drill) replay(t *testing.T, since time.Time) (jobs, entries, buried int) {
	t.Helper()
	said := d.run(t, "erase", "replay", "--since", since.UTC().Format(time.RFC3339))
	n, err := fmt.Sscanf(said, "%d jobs and %d audited erasures replayed; %d records", &jobs, &entries, &buried)
	if err != nil || n != 3 {
		t.Fatalf("replay said %q", said)
	}
	return jobs, entries, buried
}

// records of a deletion that replicated are restored to an earlier time, while
// control and audit tables are whole: what was there at that time opens, what
// was erased since stays erased (G9), and what was acknowledged since is lost.
func TestRestore(t *testing.T) {
	t.Parallel()
	d := newDrill(t, rig.Config{PerRegion: 1, More: quiet})
	before := slices.Concat(d.keep(t, rig.EU, people("email", "a", 40)), d.keep(t, rig.US, people("email", "b", 40)))
	known := d.keep(t, rig.EU, people("known_email", "a", 10))
	d.Settle(t)
	backup, point := d.items(t, rig.EU, d.Names.Records), time.Now().Truncate(time.Second)

	since := d.keep(t, rig.US, people("email", "since", 10))
	byToken := append(slices.Clone(before[10:15]), before[45], known[1])
	d.erase(t, rig.US, byToken, "a0", "a2") // a random and a deterministic value each
	erased := append(slices.Clone(byToken), before[0], before[2], known[0], known[2])
	again := d.keep(t, rig.EU, people("known_email", "a", 2)[1:]) // known[1]'s, in a new generation
	d.wantOpen(t, rig.EU, again)
	d.Settle(t)

	d.each(t, everywhere, (*rig.Instance).Stop)
	d.lose(t, rig.EU, d.Names.Records)
	d.lose(t, rig.US, d.Names.Records)
	d.Settle(t)
	d.restore(t, rig.EU, d.Names.Records, backup)
	d.Settle(t) // its replica
	if _, _, buried := d.replay(t, point); buried != len(erased) {
		t.Errorf("%d records are erased again, of %d", buried, len(erased))
	}
	if _, _, buried := d.replay(t, point); buried != 0 {
		t.Errorf("the second time %d records are erased", buried)
	}
	d.Settle(t)
	d.each(t, everywhere, (*rig.Instance).Start)

	d.wantRefused(t, everywhere, "404 not_found", erased)
	d.wantRefused(t, everywhere, "404 not_found", since)
	d.wantOpen(t, everywhere, without(slices.Concat(before, known), erased))
	d.wantListed(t, point, tokensOf(since))
	if made := d.keep(t, rig.US, people("known_email", "a", 2)[1:]); made[0].token != known[1].token {
		t.Error("a value has another token after the restore")
	}
	d.Settle(t)
	d.wantOpen(t, everywhere, again)
	if n := count(d.Entries(t, rig.EU), "replay_erase"); n != len(erased) {
		t.Errorf("%d replayed erasures are on record", n)
	}
}

func without(list, gone []kept) []kept {
	return slices.DeleteFunc(list, func(k kept) bool { return slices.Contains(gone, k) })
}

func count(logs map[string]map[uint64]audit.Entry, action string) (n int) {
	for _, log := range logs {
		for _, e := range log {
			if e.Action == action {
				n++
			}
		}
	}
	return n
}

// wantListed: what was acknowledged after the restore point is known by the audit log.
func (d *drill) wantListed(t *testing.T, from time.Time, tokens []string) {
	t.Helper()
	for _, token := range tokens {
		answer, err := d.at(t, rig.EU).QueryAudit(t.Context(), client.AuditQueryRequest{Action: "tokenize", Token: token, From: from, Limit: 10})
		if err != nil || len(answer.Entries) != 1 {
			t.Errorf("%d entries tell of a token that was lost, %v", len(answer.Entries), err)
		}
	}
}

// All tables of all regions are lost, and restored: records and control to one
// time, audit to a later one. Erasures that the restored audit log has hold
// (G9). Those after it nobody knows of, and a key revoked after the restore
// point works until it is revoked again: so says docs/operations.md.
func TestRestoreOfEverything(t *testing.T) {
	t.Parallel()
	d := newDrill(t, rig.Config{PerRegion: 1, More: quiet})
	names := d.Names
	before := d.keep(t, rig.EU, people("email", "a", 30))
	leaver, err := d.at(t, rig.EU).CreateKey(t.Context(), client.CreateKeyRequest{Name: "leaver", Roles: []string{"writer"}})
	if err != nil {
		t.Fatal(err)
	}
	d.Settle(t)
	records, control, point := d.items(t, rig.EU, names.Records), d.items(t, rig.EU, names.Control), time.Now().Truncate(time.Second)

	d.erase(t, rig.EU, before[:4])
	d.erase(t, rig.US, before[4:5], before[5].subject)
	if _, err := d.at(t, rig.EU).RevokeKey(t.Context(), leaver.ID); err != nil {
		t.Fatal(err)
	}
	d.Settle(t)
	log, known := d.items(t, rig.EU, names.Audit), count(d.Entries(t, rig.EU), "erase")
	d.erase(t, rig.EU, before[6:8])
	d.Settle(t)
	source := auditdynamo.Stored{Client: d.tables[rig.EU], Table: names.Audit}
	d.each(t, everywhere, (*rig.Instance).Stop)
	lost, err := audit.Verify(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}

	for _, region := range []string{rig.EU, rig.US} {
		d.lose(t, region, names.Records, names.Control, names.Audit, names.AuditIndex, names.Counters)
	}
	d.Settle(t)
	d.restore(t, rig.EU, names.Control, control)
	d.restore(t, rig.EU, names.Audit, log)
	d.restore(t, rig.EU, names.Records, records)
	d.Settle(t)
	d.wantTruncated(t, source, lost)
	if _, told, _ := d.replay(t, point); told != known { // there is no audit index yet
		t.Errorf("%d of %d audited erasures are replayed", told, known)
	}
	d.run(t, "stop", "--reason", "restored")
	d.Settle(t)
	d.each(t, everywhere, (*rig.Instance).Start)

	d.wantRefused(t, everywhere, "503 stopped", before[6:8])
	d.wantRevokedAgain(t, leaver)
	d.run(t, "resume", "--reason", "revoked again")
	for region := range strings.FieldsSeq(everywhere) {
		poll(t, "reveals in "+region, patience, func() bool {
			_, err := d.at(t, region).Detokenize(t.Context(), request(before[6:]))
			return err == nil
		})
	}
	d.wantOpen(t, everywhere, before[6:])
	d.wantRefused(t, everywhere, "404 not_found", before[:6])
}

// run runs a command of the documentation's.
func (d *drill) run(t *testing.T, args ...string) string {
	t.Helper()
	said, err := d.Command(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// wantTruncated: the restored log verifies, but not for whoever knows how it ended.
func (d *drill) wantTruncated(t *testing.T, source audit.Source, lost []audit.Verified) {
	t.Helper()
	if _, err := audit.Verify(t.Context(), source); err != nil {
		t.Errorf("the restored audit log: %v", err)
	}
	var known []audit.Head
	for _, log := range lost {
		known = append(known, log.Head)
	}
	if _, err := audit.Verify(t.Context(), source, known...); !errors.Is(err, audit.ErrTampered) {
		t.Errorf("with the lost heads: %v", err)
	}
}

func (d *drill) wantRevokedAgain(t *testing.T, key client.CreateKeyResponse) {
	t.Helper()
	admin := d.at(t, rig.EU)
	d.Key, key.Key = key.Key, d.Key
	leaver := d.at(t, rig.EU)
	d.Key = key.Key
	if _, err := leaver.Types(t.Context()); err != nil {
		t.Errorf("a key whose revocation was lost: %v", err)
	}
	if _, err := admin.RevokeKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := leaver.Types(t.Context()); outcome(err) != "401 unauthenticated" {
		t.Errorf("revoked again: %s", outcome(err))
	}
}

// One region's records are lost and filled again from the other's, which serves
// all the while: lost is what had not replicated, and with two_regions nothing (G1).
func TestOneRegionsTableIsLost(t *testing.T) {
	t.Parallel()
	for _, durability := range []string{"region", "two_regions"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			d := newDrill(t, rig.Config{PerRegion: 1, Orders: streams.Orders{Coalesce: true}, More: quiet + "durability: " + durability + "\n"})
			before := d.keep(t, rig.EU, people("email", "a", 30))
			d.Settle(t)
			d.Replicator.Partition(true)
			tail := d.keep(t, rig.EU, people("email", "tail", 5))
			d.each(t, rig.EU, (*rig.Instance).Stop)
			d.lose(t, rig.EU, d.Names.Records)
			d.wantOpen(t, rig.US, before)
			if _, err := d.at(t, rig.US).Erase(t.Context(), tokensOf(before[:3])...); err != nil {
				t.Fatal(err)
			}
			d.restore(t, rig.EU, d.Names.Records, d.items(t, rig.US, d.Names.Records))
			d.Replicator.Partition(false)
			d.each(t, rig.EU, (*rig.Instance).Start)
			d.Settle(t)
			d.wantOpen(t, everywhere, before[3:])
			d.wantRefused(t, everywhere, "404 not_found", before[:3])
			if strings.HasPrefix(durability, "two") {
				d.wantOpen(t, everywhere, tail)
			} else {
				d.wantRefused(t, everywhere, "404 not_found", tail)
			}
		})
	}
}
