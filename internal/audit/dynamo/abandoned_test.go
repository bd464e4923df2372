package dynamo_test

import (
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

// cutOff is a log of an instance that crashed: its blocks 0, 1 and 3 are there.
func cutOff(t *testing.T, s auditdynamo.Stored, region, instance string) audit.LogName {
	t.Helper()
	claim := audit.Claim{Log: audit.LogName{Region: region, Instance: instance, Epoch: 1}, PreviousRoot: audit.EmptyRoot()}
	raw, err := audit.AppendClaim(nil, &claim)
	if err != nil {
		t.Fatal(err)
	}
	item := dynamo.Item{"pk": dynamo.String("claims"), "sk": dynamo.String(region + "/" + instance + "/00000000000000000001"), "claim": dynamo.Bytes(raw)}
	if err := s.Client.BatchWrite(t.Context(), tableName, []dynamo.Write{{Put: item}}); err != nil {
		t.Fatal(err)
	}
	w := audit.NewWriter(claim.Log)
	for n := range 4 {
		var l audit.Leaves
		if n == 0 {
			err = l.EncodeClaim(&claim)
		} else {
			err = l.Encode([]audit.Entry{anEntry(instance)})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Add(&l)
		w.Flush(func(number uint64, b []byte) {
			if number != 2 {
				write(t, s, auditdynamo.BlockKey(claim.Log, number), slices.Clone(b))
			}
		})
	}
	return claim.Log
}

// G7: a log that ended in a crash, behind a hole, and whose instance never
// comes back, is closed by the instances that are left in its region: after a
// while, of its region's only, and so that the instance may come back after all.
func TestG7AnAbandonedLogIsClosed(t *testing.T) {
	tab := newTable(t)
	gone, elsewhere := cutOff(t, tab.Stored, "eu-west-1", "gone"), cutOff(t, tab.Stored, "us-east-1", "elsewhere")
	var ahead atomic.Int64
	c := tab.config(t, "b")
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	l, err := auditdynamo.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	tab.open = append(tab.open, l)
	eventually(t, l, "elsewhere", "gone") // it looks at both
	if _, err := audit.Verify(t.Context(), tab); !errors.Is(err, audit.ErrUnfinished) || errors.Is(err, audit.ErrTampered) {
		t.Fatalf("before: %v", err)
	}
	ended := func(log audit.LogName) bool {
		log.Epoch++
		v, err := audit.VerifyLog(t.Context(), tab, log)
		return err == nil && v.Size == 1
	}
	// When the second is closed, the time of one that was there before is long over.
	for log := gone; ; log = cutOff(t, tab.Stored, "eu-west-1", "later") {
		deadline := time.Now().Add(30 * time.Second)
		for !ended(log) {
			if time.Now().After(deadline) {
				t.Fatal("nobody closes it")
			}
			ahead.Add(int64(auditdynamo.Patient / 8))
			time.Sleep(50 * time.Millisecond)
		}
		if log != gone {
			break
		}
	}
	all, err := audit.Verify(t.Context(), tab)
	if !errors.Is(err, audit.ErrUnfinished) || errors.Is(err, audit.ErrTampered) {
		t.Errorf("a log of another region is not closed: %v", err)
	}
	for _, v := range all {
		switch v.Log {
		case gone.String():
			if v.Size != 2 || v.Void != 1 || v.Behind != 0 {
				t.Errorf("closed: %+v", v)
			}
		case elsewhere.String():
			if v.Size != 2 || v.Behind != 1 {
				t.Errorf("of another region: %+v", v)
			}
		}
	}
	if back := tab.openLog(t, "gone"); back.Name().Epoch != 3 {
		t.Errorf("it came back as %v", back.Name())
	}
}

// G6: a log of which the hole is filled at the last moment is left alone, and
// so is one whose instance came back.
func TestALogThatLivesIsNotClosed(t *testing.T) {
	tab := newTable(t)
	l := tab.openLog(t, "a")
	for n := range 2 {
		if err := appendOne(t.Context(), l, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	c := tab.config(t, "b")
	if err := c.End(t.Context(), l.Name(), 2); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(t.Context(), l, "2"); err != nil {
		t.Errorf("its writer: %v", err)
	}
	next := tab.openLog(t, "a")
	if err := c.End(t.Context(), l.Name(), 4); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(t.Context(), next, "next"); err != nil {
		t.Errorf("its successor: %v", err)
	}
	if all, err := audit.Verify(t.Context(), tab); err != nil || len(all) != 2 {
		t.Errorf("%d logs: %v", len(all), err)
	}
}
