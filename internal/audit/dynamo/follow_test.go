package dynamo_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
)

// Whichever call of a log's indexer fails, somebody hears of it, and the index
// is complete in the end.
func TestTheIndexerSaysWhenACallFails(t *testing.T) {
	for fail := 1; fail <= 40; fail++ {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			m.lived("b", 2)
			said, calls := new(warnings), new(counter)
			l, err := auditdynamo.Open(t.Context(), m.config("a", calls.hook, said))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			later := m.open("b", func(c call) error { // its own indexer does nothing
				if c.table == indexName {
					return errFatal
				}
				return nil
			})
			m.append(later, "later")
			m.append(l, "own")
			calls.failAfter(fail)
			time.Sleep(time.Minute)
			m.append(later, "more")
			time.Sleep(20 * time.Second)
			if said.count("\n") == 0 {
				t.Errorf("call %d failed, and nobody hears of it", fail)
			}
			m.wantIDs(l, "0", "1", "later", "more", "own")
			later.Close()
			l.Close()
		})
	}
}

// One indexer at a time follows a log, for as long as its lease lasts: another
// takes over when it is over, soon, and not before; who ends gives its leases back.
func TestLeasesOfTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		ofA, ofB := new(counter), new(counter)
		a := m.open("a", ofA.hook)
		m.append(a, "0")
		time.Sleep(2 * time.Second) // it has the lease of its own log
		b := m.open("b", func(c call) error {
			if c.table == indexName && c.op == "batch write" {
				return ofB.hook(c)
			}
			return nil
		})
		m.wantIDs(b, "0")
		if n := ofB.calls(); n != 0 {
			t.Errorf("%d batches of rows by who has no lease", n)
		}
		m.append(a, "1")
		time.Sleep(time.Second)
		m.wantIDs(b, "0", "1")
		// a's process writes entries and no index any more.
		held := m.progress(a.Name())
		if held.until <= time.Now().UnixMilli() {
			t.Fatal("no lease is held")
		}
		ofA.mu.Lock()
		ofA.table = tableName
		ofA.mu.Unlock()
		m.append(a, "2")
		for time.Now().UnixMilli() <= held.until {
			m.wantIDs(b, "0", "1")
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(25 * time.Second) // discovered, and then looked at
		m.wantIDs(b, "0", "1", "2")
		a.Close()
		if got := m.progress(a.Name()); got.holder != "eu-west-1/b/00000000000000000001" || got.until == 0 {
			t.Errorf("the lease: %+v", got)
		}
		b.Close()
		if got := m.progress(a.Name()); got.until != 0 {
			t.Errorf("it is not given back: %+v", got)
		}
	})
}

// progressRow is what is stored of how far a log is indexed.
type progressRow struct {
	next   uint64
	until  int64
	holder string
}

func (m *memory) progress(log audit.LogName) progressRow {
	f := dynamo.Read(m.region.Row(indexName, auditdynamo.ProgressKey(log)).Item)
	return progressRow{f.Uint("next"), f.Int("until"), f.String("holder")}
}

// What is quiet is looked at seldom, and what happens then shows soon all the same.
func TestQuietLogsCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		quiet, calls := m.open("quiet", func(c call) error {
			if c.table == indexName {
				return errFatal // another has to index it
			}
			return nil
		}), new(counter)
		l := m.open("a", calls.hook)
		time.Sleep(5 * time.Minute)
		before := calls.calls()
		time.Sleep(time.Hour)
		if n := calls.calls() - before; n < 360 || n > 3600 {
			t.Errorf("%d calls in an hour in which nothing happened", n)
		}
		m.append(quiet, "0")
		time.Sleep(11 * time.Second)
		m.wantIDs(l, "0")
		m.append(quiet, "1")
		time.Sleep(time.Second) // where something happens it is looked at often
		m.wantIDs(l, "0", "1")
		quiet.Close()
		l.Close()
	})
}

// G6, G7: a log of this region is closed when there has been a block behind a
// hole for two minutes and not sooner, each hole counting from when it was
// seen; what was behind it shows nowhere, what was before it does.
func TestWhenAnAbandonedLogIsClosed(t *testing.T) {
	for _, filled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			gone := cutOff(t, m.Stored, "eu-west-1", "gone")
			hole := m.hole(gone)
			said := new(warnings)
			l, err := auditdynamo.Open(t.Context(), m.config("a", nil, said))
			if err != nil {
				t.Fatal(err)
			}
			wait := auditdynamo.Patient
			time.Sleep(wait - 10*time.Second)
			if filled { // at last; and then there is another
				write(t, m.Stored, auditdynamo.BlockKey(gone, 2), hole)
				time.Sleep(30 * time.Second)
				m.wantIDs(l, "gone", "gone", "gone")
				b := m.block(gone, 3)
				write(t, m.Stored, auditdynamo.BlockKey(gone, 5), b)
				time.Sleep(wait - 10*time.Second)
			}
			if n := said.count("closed"); n != 0 {
				t.Error("closed too early")
			}
			time.Sleep(40 * time.Second)
			if n := said.count("closed"); n != 1 {
				t.Errorf("closed %d times", n)
			}
			want := []string{"gone"}
			if filled {
				want = []string{"gone", "gone", "gone"}
			}
			m.wantIDs(l, want...)
			time.Sleep(10 * time.Minute)
			m.wantIDs(l, want...)
			all := m.wantVerified(3)
			if i := slices.IndexFunc(all, func(v audit.Verified) bool { return v.Log == gone.String() }); all[i].Void != 1 || all[i].Size != uint64(len(want)+1) {
				t.Errorf("%+v", all[i])
			}
			if n := said.count("closed"); n != 1 {
				t.Errorf("closed %d times", n)
			}
			l.Close()
		})
	}
}

// G7: that a log was closed is not said where it could not be, and it is tried again.
func TestAnEndThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		cutOff(t, m.Stored, "eu-west-1", "gone")
		said := new(warnings)
		var mended atomic.Bool
		var puts atomic.Int64
		l, err := auditdynamo.Open(t.Context(), m.config("a", nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		l, err = auditdynamo.Open(t.Context(), m.config("a", func(c call) error {
			if c.op == "put" && c.table == tableName && puts.Add(1) > 3 && !mended.Load() { // after its fence, claim and first block
				return errFatal
			}
			return nil
		}, said))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if said.count("closed") != 0 || said.count("behind") < 2 {
			t.Errorf("closed %d times, told %d times that it failed", said.count("closed"), said.count("behind"))
		}
		mended.Store(true)
		time.Sleep(5 * time.Minute)
		if said.count("closed") != 1 {
			t.Errorf("closed %d times", said.count("closed"))
		}
		l.Close()
		m.wantVerified(4)
	})
}

// hole is the block that a log which was cut off lacks.
func (m *memory) hole(log audit.LogName) (block []byte) {
	m.t.Helper()
	w := audit.NewWriter(log)
	for number := range uint64(3) {
		var l audit.Leaves
		var err error
		if number == 0 {
			err = l.EncodeClaim(&audit.Claim{Log: log, PreviousRoot: audit.EmptyRoot()})
		} else {
			err = l.Encode([]audit.Entry{anEntry(log.Instance)})
		}
		if err != nil {
			m.t.Fatal(err)
		}
		w.Add(&l)
		w.Flush(func(_ uint64, b []byte) { block = slices.Clone(b) })
	}
	return block
}

// G6: what is behind a fence shows nowhere, though no claim is here yet that
// says where the log ends.
func TestWhatIsBehindAFenceIsNotIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		log := cutOff(t, m.Stored, "us-east-1", "gone")
		fence := auditdynamo.BlockKey(log, 2).Item()
		fence["fence"] = dynamo.Int(1)
		m.region.Put(tableName, auditdynamo.BlockKey(log, 2), fence)
		l := m.open("a", nil)
		time.Sleep(5 * time.Minute)
		m.wantIDs(l, "gone")
		l.Close()
	})
}

// Rows of the index that are none are corrupt to a query; progress rows that
// are none have their log indexed again.
func TestStrangeRowsOfTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		log := m.lived("b", 2)
		key := auditdynamo.ProgressKey(log)
		m.region.Put(indexName, key, key.Item())
		l := m.open("a", nil)
		time.Sleep(30 * time.Second)
		m.wantIDs(l, "0", "1")
		row := auditdynamo.IndexRow(log, "t", "a", [3]uint64{1, 1, 1})
		row["p"] = dynamo.Bytes([]byte{1})
		m.index(row)
		if _, _, err := l.Query(t.Context(), audit.Query{Tenant: "t", Actor: "a", Limit: 1}); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("query: %v", err)
		}
		l.Close()
	})
}

// A block that cannot be read is told of and holds up no other.
func TestABlockThatCannotBeIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		gone := cutOff(t, m.Stored, "eu-west-1", "gone")
		write(t, m.Stored, auditdynamo.BlockKey(gone, 2), []byte("no block"))
		said := new(warnings)
		l, err := auditdynamo.Open(t.Context(), m.config("a", nil, said))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		m.wantIDs(l, "gone", "gone")
		if said.count("cannot be indexed") != 1 {
			t.Error("nobody hears of it")
		}
		l.Close()
	})
}

// While blocks cannot be written appends are refused, once it is told, and when
// they can be again the log goes on; Close gives up after twice its patience.
func TestAnOutageInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		said, calls := new(warnings), new(counter)
		l, err := auditdynamo.Open(t.Context(), m.config("a", calls.hook, said))
		if err != nil {
			t.Fatal(err)
		}
		calls.set(errFatal)
		begun := time.Now()
		if err := appendOne(t.Context(), l, "refused"); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		if waited := time.Since(begun); waited > 2*time.Second {
			t.Errorf("it waited %v", waited)
		}
		for range 10 {
			if err := appendOne(t.Context(), l, "refused at once"); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := said.count("audit blocks cannot be written now"); n != 1 {
			t.Errorf("told %d times", n)
		}
		calls.set(nil)
		time.Sleep(2 * time.Second)
		if err := l.Ready(); err != nil {
			t.Error(err)
		}
		m.append(l, "after")
		calls.set(errFatal)
		p := l.Append([]audit.Entry{anEntry("lost")})
		begun = time.Now()
		l.Close()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("closing took %v", took)
		}
		if _, err := p.Wait(t.Context()); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("an append under way: %v", err)
		}
		if err := l.Ready(); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("a closed log: %v", err)
		}
		if v, err := audit.VerifyLog(t.Context(), m, l.Name()); err != nil || v.Size != 3 {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// Whose log was ended by its successor is told so once, and all that it has
// queued is refused (G6).
func TestTheEndIsToldOnce(t *testing.T) {
	m := newMemory(t)
	c := m.config("a", nil, nil)
	var ends []error
	c.OnEnd = func(err error) { ends = append(ends, err) }
	paused, err := auditdynamo.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	next := m.open("a", nil)
	var all []audit.Pending
	for n := range 20 {
		all = append(all, paused.Append([]audit.Entry{anEntry(fmt.Sprint(n))}))
	}
	for i, p := range all {
		if _, err := p.Wait(t.Context()); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append %d: %v", i, err)
		}
	}
	if err := paused.Ready(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("it is ready: %v", err)
	}
	paused.Close()
	next.Close()
	if len(ends) != 1 {
		t.Errorf("told %d times", len(ends))
	}
	m.wantVerified(2)
}

// Queries look at whole seconds, newest first: whatever span and page, what
// comes is what a plain filter gives.
func TestQueriesAcrossSeconds(t *testing.T) {
	m := newMemory(t)
	l := m.open("a", nil)
	var times []int64
	for n := range 60 {
		at := int64(1 + (n*n*37+n*911)%4100)
		if n%5 == 0 {
			at = at / 1000 * 1000 // the edge of a second
		}
		at = max(at, 1)
		times = append(times, at)
		e := anEntry(fmt.Sprint(at))
		e.Time = at
		if _, err := l.Append([]audit.Entry{e}).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	slices.Sort(times)
	slices.Reverse(times)
	rapid.Check(t, func(r *rapid.T) {
		bound := func(name string) int64 {
			return rapid.OneOf(rapid.Int64Range(0, 4200), rapid.SampledFrom([]int64{999, 1000, 1001, 2000, 3000, 4000})).Draw(r, name)
		}
		q := audit.Query{Tenant: "t", From: bound("from"), To: bound("to"), Limit: rapid.IntRange(1, 20).Draw(r, "limit")}
		var want, got []int64
		for _, at := range times {
			if at >= q.From && (q.To == 0 || at < q.To) {
				want = append(want, at)
			}
		}
		for {
			page, next, err := l.Query(t.Context(), q)
			if err != nil || len(page) > q.Limit {
				r.Fatalf("%d entries, %v", len(page), err)
			}
			for _, f := range page {
				got = append(got, f.Entry.Time)
			}
			if q.Cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			r.Fatalf("got %v, want %v", got, want)
		}
	})
}

// A call that has looked at enough gives a cursor, though it found nothing, and
// the next goes on behind it.
func TestAQueryLooksAtABoundedNumber(t *testing.T) {
	m := newMemory(t)
	l := m.open("a", nil)
	needle := anEntry("needle")
	needle.Purpose = "rare"
	entries := []audit.Entry{needle}
	for n := range auditdynamo.MaxExamined {
		e := anEntry("hay")
		e.Time = int64(2 + n)
		entries = append(entries, e)
	}
	if _, err := l.Append(entries).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Close()
	q := audit.Query{Tenant: "t", Purpose: "rare", Limit: 1}
	page, next, err := l.Query(t.Context(), q)
	if err != nil || len(page) != 0 || next == "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
	q.Cursor = next
	if page, next, err = l.Query(t.Context(), q); err != nil || len(page) != 1 || next != "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
}

// So does one that has gone through enough of an index in which nothing was to
// be looked at; also where all of that is in one second.
func TestAQueryScansABoundedIndex(t *testing.T) {
	m := newMemory(t)
	l := m.open("a", nil)
	for _, at := range []int64{1, 3_000} {
		e := anEntry(fmt.Sprint(at))
		e.Time = at
		if _, err := l.Append([]audit.Entry{e}).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	for row := range auditdynamo.MaxScanned/1000 + 1 {
		places := make([][3]uint64, 1000)
		for i := range places {
			places[i] = [3]uint64{5_900, uint64(10 + row*1000 + i), 1}
		}
		m.index(auditdynamo.IndexRow(l.Name(), "t", "a", places...))
	}
	q := audit.Query{Tenant: "t", Actor: "a", To: 5_500, Limit: 1}
	for i, want := range []string{"", "3000", "1"} {
		page, next, err := l.Query(t.Context(), q)
		if err != nil || (next == "") != (want == "1") {
			t.Fatalf("page %d: cursor %q, %v", i, next, err)
		}
		if want == "" && len(page) != 0 || want != "" && (len(page) != 1 || page[0].Entry.RequestID != want) {
			t.Errorf("page %d: %+v, want %q", i, page, want)
		}
		q.Cursor = next
	}
}

// A query over a damaged block says so, or finds nothing there.
func TestAQueryOfDamagedBlocks(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(m *memory, block []byte, item dynamo.Item)
		want   error
	}{
		"half a block": {func(_ *memory, b []byte, item dynamo.Item) { item["block"] = dynamo.Bytes(b[:len(b)/2]) }, audit.ErrCorrupt},
		"an entry that is none": {func(_ *memory, b []byte, _ dynamo.Item) {
			b[bytes.Index(b, []byte("detokenize"))-1] = 0x7f // bytes that follow
		}, audit.ErrCorrupt},
		"another log's": {func(m *memory, _ []byte, item dynamo.Item) {
			item["block"] = dynamo.Bytes(m.block(m.lived("b", 1), 1))
		}, audit.ErrCorrupt},
		"another place's": {func(m *memory, _ []byte, item dynamo.Item) {
			log := audit.LogName{Region: "eu-west-1", Instance: "a", Epoch: 1}
			item["block"] = dynamo.Bytes(m.block(log, 0))
		}, audit.ErrCorrupt},
		"neither block nor fence": {func(_ *memory, _ []byte, item dynamo.Item) { delete(item, "block") }, audit.ErrCorrupt},
		"a fence": {func(_ *memory, _ []byte, item dynamo.Item) {
			delete(item, "block")
			item["fence"] = dynamo.Int(1)
		}, nil},
	} {
		m := newMemory(t)
		l := m.open("a", nil)
		m.append(l, "0")
		l.Close()
		key := auditdynamo.BlockKey(l.Name(), 1)
		b, item := m.block(l.Name(), 1), key.Item()
		item["block"] = dynamo.Bytes(b)
		test.damage(m, b, item)
		m.region.Put(tableName, key, item)
		page, _, err := l.Query(t.Context(), audit.Query{Tenant: "t", To: 2, Actor: "a", Limit: 1})
		if !errors.Is(err, test.want) || len(page) != 0 {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
}

// Whatever of an index row is not as it is written is refused.
func TestIndexRowRefuses(t *testing.T) {
	good := dynamo.Read(auditdynamo.IndexRow(audit.LogName{Region: "r", Instance: "i", Epoch: 1}, "t", "a", [3]uint64{1, 2, 3}, [3]uint64{1, 400, 3}))
	sk, p := good.String("sk"), good.Bytes("p")
	row := func(sk string, p []byte) dynamo.Item {
		return dynamo.Item{"pk": dynamo.String("a#x"), "sk": dynamo.String(sk), "p": dynamo.Bytes(p)}
	}
	if places, err := auditdynamo.ParseRow(row(sk, p)); err != nil || len(places) != 2 {
		t.Fatal(places, err)
	}
	none := row(sk, p)
	delete(none, "p")
	many := bytes.Repeat([]byte{0x80}, 11)
	for name, item := range map[string]dynamo.Item{
		"no postings":          none,
		"two parts":            row(sk[:len(sk)-21], p),
		"four parts":           row(sk+"#", p),
		"no number":            row("g"+sk[1:], p),
		"a short number":       row(sk[1:], p),
		"another spelling":     row(strings.Replace(sk, "#", "A#", 1)[1:], p),
		"no log":               row(strings.Replace(sk, "r/i", "r i", 1), p),
		"no index":             row(sk[:len(sk)-1]+"x", p),
		"a short index":        row(sk[:len(sk)-1], p),
		"half a header":        row(sk, p[:7]),
		"a posting of one":     row(sk, append(slices.Clone(p), 0)),
		"a posting of three":   row(sk, append(slices.Clone(p), 0, 0, 0)),
		"an endless index":     row(sk, append(append(slices.Clone(p), 0, 0), many...)),
		"an endless block":     row(sk, append(append(slices.Clone(p), 0, 0, 1), many...)),
		"an unfinished number": row(sk, append(slices.Clone(p), 0, 0, 1, 0x80)),
		"an unfinished index":  row(sk, append(slices.Clone(p), 0, 0, 0x80, 0x80)),
	} {
		if places, err := auditdynamo.ParseRow(item); !errors.Is(err, audit.ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, places, err)
		}
	}
}

func (m *memory) index(item dynamo.Item) {
	m.region.Put(indexName, dynamo.Read(item).Key(), item)
}
