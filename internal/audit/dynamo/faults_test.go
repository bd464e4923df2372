package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
)

// lived is a log of the instance with so many entries, whose process is gone.
func (m *memory) lived(instance string, entries int) audit.LogName {
	m.t.Helper()
	l := m.open(instance, nil)
	for n := range entries {
		m.append(l, fmt.Sprint(n))
	}
	l.Close()
	return l.Name()
}

// Whichever of its calls fails, Open says so, and the next one goes on where it
// stopped: nothing is lost, and all that is stored verifies (G6, G7).
func TestOpenSaysWhenACallFails(t *testing.T) {
	for name, test := range map[string]struct {
		before func(m *memory)
		sizes  []uint64 // of the logs there were
	}{
		"the first":               {func(*memory) {}, nil},
		"after none but a claim":  {func(m *memory) { m.lived("a", 0) }, []uint64{1}},
		"after one entry":         {func(m *memory) { m.lived("a", 1) }, []uint64{2}},
		"after several":           {func(m *memory) { m.lived("a", 4) }, []uint64{5}},
		"after a crash with hole": {func(m *memory) { cutOff(m.t, m.Stored, "eu-west-1", "a") }, []uint64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			// Only the audit table is asked before Open returns: whatever the
			// indexer does after it fails.
			try := func(fail int) (int, error) {
				m := newMemory(t)
				test.before(m)
				calls := &counter{table: tableName, fail: fail}
				l, err := auditdynamo.Open(t.Context(), m.config("a", calls.hook, nil))
				n := calls.calls()
				if err != nil {
					l = m.open("a", nil)
				}
				m.append(l, "next")
				l.Close()
				logs := len(test.sizes) + 1
				if epoch := int(l.Name().Epoch); epoch != logs && epoch != logs+1 {
					t.Errorf("call %d: opened as %v", fail, l.Name())
				}
				all := m.wantVerified(int(l.Name().Epoch))
				for i, size := range test.sizes {
					if all[i].Size != size {
						t.Errorf("call %d: log %s has %d leaves, want %d", fail, all[i].Log, all[i].Size, size)
					}
				}
				if last := all[len(all)-1]; last.Size != 2 {
					t.Errorf("call %d: %+v", fail, last)
				}
				return n, err
			}
			n, err := try(0)
			if err != nil || n == 0 {
				t.Fatalf("%d calls: %v", n, err)
			}
			for fail := 1; fail <= n; fail++ {
				if _, err := try(fail); !errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrTampered) {
					t.Errorf("call %d of %d failed: %v", fail, n, err)
				}
			}
		})
	}
}

// Whichever of its calls fails, the end of an abandoned log says so, and is made
// the next time (G7).
func TestEndSaysWhenACallFails(t *testing.T) {
	try := func(fail int) (int, error) {
		m := newMemory(t)
		log := cutOff(t, m.Stored, "eu-west-1", "a")
		calls := &counter{fail: fail}
		c := m.config("b", calls.hook, nil)
		err := c.End(t.Context(), log, 2)
		n := calls.calls()
		if again := c.End(t.Context(), log, 2); again != nil {
			t.Errorf("call %d failed, and again: %v", fail, again)
		}
		if all := m.wantVerified(2); all[0].Size != 2 || all[0].Void != 1 || all[0].Behind != 0 {
			t.Errorf("call %d: %+v", fail, all)
		}
		l := m.open("a", nil)
		m.append(l, "back")
		l.Close()
		if l.Name().Epoch != 3 {
			t.Errorf("call %d: it came back as %v", fail, l.Name())
		}
		m.wantVerified(3)
		return n, err
	}
	n, err := try(0)
	if err != nil {
		t.Fatal(err)
	}
	for fail := 1; fail <= n; fail++ {
		if _, err := try(fail); !errors.Is(err, dynamo.ErrNoTable) {
			t.Errorf("call %d of %d failed: %v", fail, n, err)
		}
	}
}

// A log whose claim cannot be read is not ended in its name.
func TestEndWithoutAClaim(t *testing.T) {
	for name, claim := range map[string][]byte{"none": nil, "of nothing": {0x81}} {
		m := newMemory(t)
		log := cutOff(t, m.Stored, "eu-west-1", "a")
		m.claim(log, claim)
		c := m.config("b", nil, nil)
		if err := c.End(t.Context(), log, 2); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		log.Epoch++
		err := m.Claims(t.Context(), func(of audit.LogName, _ []byte) error {
			if of == log {
				t.Errorf("%s: the next epoch is claimed", name)
			}
			return nil
		})
		if err != nil && claim != nil {
			t.Error(err)
		}
	}
}

func claimKey(log audit.LogName) dynamo.Key {
	return dynamo.Key{PK: "claims", SK: fmt.Sprintf("%s/%s/%020d", log.Region, log.Instance, log.Epoch)}
}

// claim replaces a log's claim, or removes it.
func (m *memory) claim(log audit.LogName, raw []byte) {
	key := claimKey(log)
	var item dynamo.Item
	if raw != nil {
		item = key.Item()
		item["claim"] = dynamo.Bytes(raw)
	}
	m.region.Put(tableName, key, item)
}

// block is what is stored in a place.
func (m *memory) block(log audit.LogName, number uint64) []byte {
	return slices.Clone(dynamo.Read(m.region.Row(tableName, auditdynamo.BlockKey(log, number)).Item).Bytes("block"))
}

// G7: a log of which the end is damaged is not succeeded: no claim vouches for it.
func TestOpenRefusesADamagedLog(t *testing.T) {
	change := func(number uint64, change func([]byte)) func(*memory, audit.LogName) {
		return func(m *memory, log audit.LogName) {
			b := m.block(log, number)
			change(b)
			write(m.t, m.Stored, auditdynamo.BlockKey(log, number), b)
		}
	}
	leaf := func(b []byte) { b[len(b)-audit.HashSize-2] ^= 1 }
	for name, damage := range map[string]func(*memory, audit.LogName){
		"a bit of the tail":          change(4, leaf),
		"a bit of the block before":  change(3, leaf),
		"a bit of the first block":   change(0, leaf),
		"a root of the block before": change(3, func(b []byte) { b[len(b)-1] ^= 1 }),
		"half a block": func(m *memory, log audit.LogName) {
			write(m.t, m.Stored, auditdynamo.BlockKey(log, 4), m.block(log, 4)[:50])
		},
		"the block before in its place": func(m *memory, log audit.LogName) {
			write(m.t, m.Stored, auditdynamo.BlockKey(log, 4), m.block(log, 3))
		},
		"another log's block": func(m *memory, log audit.LogName) {
			write(m.t, m.Stored, auditdynamo.BlockKey(log, 4), m.block(m.lived("b", 4), 4))
		},
		"the tail of another life": func(m *memory, log audit.LogName) {
			other := newMemory(m.t) // the same but for its nonce
			write(m.t, m.Stored, auditdynamo.BlockKey(log, 4), other.block(other.lived("a", 4), 4))
		},
		"another claim": func(m *memory, log audit.LogName) {
			raw, err := audit.AppendClaim(nil, &audit.Claim{Log: log, PreviousRoot: audit.EmptyRoot()})
			if err != nil {
				m.t.Fatal(err)
			}
			m.claim(log, raw)
		},
		"another log's claim": func(m *memory, log audit.LogName) {
			of := m.lived("b", 1)
			m.claim(log, dynamo.Read(m.region.Row(tableName, claimKey(of)).Item).Bytes("claim"))
		},
		"no claim in its row": func(m *memory, log audit.LogName) { m.region.Put(tableName, claimKey(log), claimKey(log).Item()) },
		"a claim cut":         func(m *memory, log audit.LogName) { m.claim(log, []byte{0x81}) },
		"neither block nor fence": func(m *memory, log audit.LogName) {
			key := auditdynamo.BlockKey(log, 4)
			m.region.Put(tableName, key, key.Item())
		},
		"a row that is no number": func(m *memory, log audit.LogName) {
			key := auditdynamo.BlockKey(log, 4)
			key.SK = "x"
			m.region.Put(tableName, key, key.Item())
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(t)
			log := m.lived("a", 4)
			damage(m, log)
			l, err := auditdynamo.Open(t.Context(), m.config("a", nil, nil))
			if err == nil {
				l.Close()
			}
			if !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) || errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("opened: %v", err)
			}
			log.Epoch++
			if m.region.Row(tableName, claimKey(log)).Item != nil {
				t.Error("the next epoch is claimed")
			}
		})
	}
}

// G6: what the last process acknowledges until its log is ended counts: whoever
// comes next finds the place taken where it thought that the log ended.
func TestOpenWhileTheLastProcessWrites(t *testing.T) {
	m := newMemory(t)
	last := m.open("a", nil)
	m.append(last, "0")
	var puts atomic.Int64
	next := m.open("a", func(c call) error {
		if c.op != "put" || c.table != tableName {
			return nil
		}
		if n := puts.Add(1); n <= 2 {
			m.append(last, fmt.Sprint(n))
		}
		return nil
	})
	if err := appendOne(t.Context(), last, "late"); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("after its end: %v", err)
	}
	last.Close()
	next.Close()
	if all := m.wantVerified(2); all[0].Size != 4 {
		t.Errorf("%+v", all)
	}
}

// G7: of a long log the beginning is looked at, too.
func TestOpenMissesTheFirstBlock(t *testing.T) {
	m := newMemory(t)
	log := m.lived("a", auditdynamo.Window+2)
	m.region.Put(tableName, auditdynamo.BlockKey(log, 0), nil)
	l, err := auditdynamo.Open(t.Context(), m.config("a", nil, nil))
	if err == nil {
		l.Close()
	}
	if !errors.Is(err, audit.ErrTampered) {
		t.Errorf("opened: %v", err)
	}
}

// A claim that another process made first is not taken for one's own.
func TestAnEpochIsClaimedOnce(t *testing.T) {
	m := newMemory(t)
	log := audit.LogName{Region: "eu-west-1", Instance: "a", Epoch: 1}
	raced := false
	l, err := auditdynamo.Open(t.Context(), m.config("a", func(c call) error {
		if c.op == "put" && !raced {
			raced = true
			raw, err := audit.AppendClaim(nil, &audit.Claim{Log: log, Nonce: [audit.NonceSize]byte{1}, PreviousRoot: audit.EmptyRoot()})
			if err != nil {
				t.Error(err)
			}
			m.claim(log, raw)
		}
		return nil
	}, nil))
	if err == nil {
		l.Close()
	}
	if !errors.Is(err, audit.ErrClaimed) || errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("opened: %v", err)
	}
}

// noNonce has no randomness left.
type noNonce struct{}

func (noNonce) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// Nothing is claimed under a bad name or without a nonce.
func TestOpenNeedsANameAndANonce(t *testing.T) {
	m := newMemory(t)
	for _, instance := range []string{"", "a/b", "a b"} {
		if _, err := auditdynamo.Open(t.Context(), m.config(instance, nil, nil)); !errors.Is(err, audit.ErrName) || errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("instance %q: %v", instance, err)
		}
	}
	c := m.config("a", nil, nil)
	c.Random = noNonce{}
	if _, err := auditdynamo.Open(t.Context(), c); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("without a nonce: %v", err)
	}
	m.wantVerified(0)
}

// Whichever of its calls fails, a query and a reading of the logs say so.
func TestReadersSayWhenACallFails(t *testing.T) {
	m := newMemory(t)
	l := m.open("a", nil)
	m.append(l, "0", "1", "2")
	l.Close() // all is indexed
	for name, read := range map[string]func(ctx context.Context, l *auditdynamo.Log, s auditdynamo.Stored) error{
		"query": func(ctx context.Context, l *auditdynamo.Log, _ auditdynamo.Stored) error {
			page, _, err := l.Query(ctx, audit.Query{Tenant: "t", Limit: 10})
			if err == nil && len(page) != 3 {
				t.Errorf("%d entries", len(page))
			}
			return err
		},
		"claims": func(ctx context.Context, _ *auditdynamo.Log, s auditdynamo.Stored) error {
			return s.Claims(ctx, func(audit.LogName, []byte) error { return nil })
		},
		"blocks": func(ctx context.Context, _ *auditdynamo.Log, s auditdynamo.Stored) error {
			return s.Blocks(ctx, audit.LogName{Region: "eu-west-1", Instance: "a", Epoch: 1}, func(uint64, []byte) error { return nil })
		},
	} {
		for fail := 0; ; fail++ {
			calls := new(counter)
			reader, err := auditdynamo.Open(t.Context(), m.config("reader", calls.hook, nil))
			if err != nil {
				t.Fatal(err)
			}
			reader.Close() // its indexer calls no more
			before := calls.calls()
			if fail > 0 {
				calls.failAfter(fail)
			}
			err = read(t.Context(), reader, reader.Stored)
			if fail > calls.calls()-before {
				break
			}
			if (err == nil) != (fail == 0) || err != nil && !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("%s: call %d failed: %v", name, fail, err)
			}
		}
	}
}

// What stops a reading is what its caller said, as it was said.
func TestReadersStopAsTold(t *testing.T) {
	m := newMemory(t)
	log := m.lived("a", 3)
	want := errors.New("enough")
	n := 0
	told := func() error { n++; return want }
	if err := m.Claims(t.Context(), func(audit.LogName, []byte) error { return told() }); err != want || n != 1 { //nolint:errorlint // as it was said
		t.Errorf("claims: %v after %d", err, n)
	}
	n = 0
	if err := m.Blocks(t.Context(), log, func(uint64, []byte) error { return told() }); err != want || n != 1 { //nolint:errorlint // as it was said
		t.Errorf("blocks: %v after %d", err, n)
	}
}

// Rows that are none of this package's are corrupt to who reads the logs.
func TestReadersRefuseStrangeRows(t *testing.T) {
	m := newMemory(t)
	log := m.lived("a", 1)
	for name, key := range map[string]dynamo.Key{
		"neither block nor fence": auditdynamo.BlockKey(log, 2),
		"a block's number":        {PK: auditdynamo.BlockKey(log, 0).PK, SK: "1"},
		"a claim's log":           {PK: "claims", SK: "eu-west-1/a/1"},
		"a claim's region":        {PK: "claims", SK: "eu west/a/00000000000000000001"},
	} {
		item := key.Item()
		item["block"], item["claim"] = dynamo.Bytes(m.block(log, 1)), dynamo.Bytes([]byte{1})
		if name == "neither block nor fence" {
			delete(item, "block")
		}
		m.region.Put(tableName, key, item)
		if _, err := audit.Verify(t.Context(), m); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		m.region.Put(tableName, key, nil)
	}
	m.wantVerified(1)
}

// G6: a block that is there is not acknowledged where the log has ended before
// it; the end is told once, and what was appended counts for nothing.
func TestABlockBehindTheEndIsNotAcknowledged(t *testing.T) {
	m := newMemory(t)
	held, release := make(chan struct{}), make(chan struct{})
	var puts atomic.Int64
	c := m.config("a", func(c call) error {
		if c.op != "put" || c.table != tableName {
			return nil
		}
		if puts.Add(1) == 3 { // after its claim and its first block
			close(held)
			<-release
		}
		return nil
	}, nil)
	c.Patience = time.Minute
	ends := 0
	c.OnEnd = func(error) { ends++ }
	last, err := auditdynamo.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	first := last.Append([]audit.Entry{anEntry("1")})
	<-held
	second := last.Append([]audit.Entry{anEntry("2")})
	for deadline := time.Now().Add(20 * time.Second); m.block(last.Name(), 2) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second block is not written")
		}
	}
	next := m.open("a", nil)
	close(release)
	for i, p := range []audit.Pending{first, second} {
		if _, err := p.Wait(t.Context()); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append %d: %v", i, err)
		}
	}
	last.Close()
	next.Close()
	if ends != 1 {
		t.Errorf("the end is told %d times", ends)
	}
	if all := m.wantVerified(2); all[0].Size != 1 || all[0].Void != 1 {
		t.Errorf("%+v", all)
	}
}

// The instance comes back while another is about to begin its next log for it:
// that is well too.
func TestTheInstanceComesBackWhileItsLogIsEnded(t *testing.T) {
	m := newMemory(t)
	log := cutOff(t, m.Stored, "eu-west-1", "a")
	puts := 0
	var back *auditdynamo.Log
	c := m.config("b", func(c call) error {
		if c.op == "put" {
			if puts++; puts == 4 { // two fences, the claim, and then the first block
				back = m.open("a", nil)
			}
		}
		return nil
	}, nil)
	if err := c.End(t.Context(), log, 2); err != nil || back == nil {
		t.Fatal(err)
	}
	m.append(back, "back")
	back.Close()
	if all := m.wantVerified(3); all[1].Size != 0 || all[2].Size != 2 {
		t.Errorf("%+v", all)
	}
}

// G7: a log is read to its end, however many partitions it fills, from
// wherever its reader was.
func TestALogOfSeveralPartitions(t *testing.T) {
	m := newMemory(t)
	log := audit.LogName{Region: "eu-west-1", Instance: "a", Epoch: 1}
	claim := audit.Claim{Log: log, PreviousRoot: audit.EmptyRoot()}
	raw, err := audit.AppendClaim(nil, &claim)
	if err != nil {
		t.Fatal(err)
	}
	m.claim(log, raw)
	const blocks = 2*auditdynamo.PerPartition + 3
	w := audit.NewWriter(log)
	for n := range uint64(blocks) {
		var l audit.Leaves
		if n == 0 {
			err = l.EncodeClaim(&claim)
		} else {
			err = l.Encode([]audit.Entry{anEntry("x")})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Add(&l)
		w.Flush(func(number uint64, b []byte) {
			key := auditdynamo.BlockKey(log, number)
			item := key.Item()
			item["block"] = dynamo.Bytes(slices.Clone(b))
			m.region.Put(tableName, key, item)
		})
	}
	if all := m.wantVerified(1); all[0].Size != blocks {
		t.Errorf("%d leaves of %d", all[0].Size, blocks)
	}
	progress := auditdynamo.ProgressKey(log).Item() // indexed so far, in the midst of a partition
	progress["next"], progress["holder"], progress["until"] = dynamo.Uint(auditdynamo.PerPartition-2), dynamo.String("gone"), dynamo.Int(0)
	m.region.Put(indexName, auditdynamo.ProgressKey(log), progress)
	l := m.open("b", nil)
	deadline := time.Now().Add(20 * time.Second)
	for want := auditdynamo.PerPartition + 5; len(m.ids(l)) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d entries are indexed of %d", len(m.ids(l)), want)
		}
	}
	l.Close()
}
