package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

func anEntry(id string) audit.Entry {
	return audit.Entry{Time: 1, Tenant: "t", Actor: "a", Action: "detokenize", Outcome: audit.Authorized, RequestID: id}
}

func appendOne(ctx context.Context, l *auditdynamo.Log, id string) error {
	_, err := l.Append([]audit.Entry{anEntry(id)}).Wait(ctx)
	return err
}

// G6, G7: a process that was thought dead acknowledges nothing after its
// successor has begun, whatever it had under way.
func TestAReplacedProcessAcknowledgesNothing(t *testing.T) {
	tab := newTable(t)
	paused := tab.openLog(t, "a")
	if err := appendOne(t.Context(), paused, "before"); err != nil {
		t.Fatal(err)
	}
	next := tab.openLog(t, "a")
	for range 3 {
		if err := appendOne(t.Context(), paused, "after"); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append of the replaced process: %v", err)
		}
	}
	if err := appendOne(t.Context(), next, "next"); err != nil {
		t.Fatal(err)
	}
	verified, err := audit.Verify(t.Context(), tab)
	if err != nil || len(verified) != 2 || verified[0].Size != 2 {
		t.Errorf("verified %+v: %v", verified, err)
	}
}

// While DynamoDB cannot be written, appends are refused in bounded time, at
// once after the first; when it can be again, the same log goes on, and
// what was refused is there or not, but whole and in its place.
func TestAnOutagePasses(t *testing.T) {
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprint("applied ", applied), func(t *testing.T) {
			tab := newTable(t)
			tab.patience = time.Second
			l := tab.openLog(t, "a")
			if err := appendOne(t.Context(), l, "before"); err != nil {
				t.Fatal(err)
			}
			tab.Fail(applied)
			if err := appendOne(t.Context(), l, "refused"); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
			if err := l.Ready(); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("it is ready: %v", err)
			}
			begun := time.Now()
			if err := appendOne(t.Context(), l, "refused"); !errors.Is(err, audit.ErrUnavailable) || time.Since(begun) > 500*time.Millisecond {
				t.Errorf("append after %v: %v", time.Since(begun), err)
			}
			tab.faults.On(nil)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for appendOne(ctx, l, "after") != nil {
				if ctx.Err() != nil {
					t.Fatal("the log does not go on")
				}
				time.Sleep(20 * time.Millisecond) // until the pause of the retries is over
			}
			if err := l.Ready(); err != nil {
				t.Errorf("it goes on and is not ready: %v", err)
			}
			v, err := audit.VerifyLog(t.Context(), tab, l.Name())
			if err != nil || v.Size != 4 {
				t.Errorf("verified %+v: %v", v, err)
			}
		})
	}
}

// Faults that pass are not seen at all, and nothing is written twice.
func TestFaultsThatPass(t *testing.T) {
	for _, fault := range []dynamolocal.Fault{dynamolocal.Refused, dynamolocal.Lost, dynamolocal.Throttled, dynamolocal.Broken} {
		tab := newTable(t)
		l := tab.openLog(t, "a")
		n := 0
		tab.faults.On(func(string) dynamolocal.Fault {
			if n++; n%3 == 0 {
				return fault
			}
			return dynamolocal.None
		})
		for i := range 10 {
			if err := appendOne(t.Context(), l, fmt.Sprint(i)); err != nil {
				t.Errorf("fault %d: append %d: %v", fault, i, err)
			}
		}
		v, err := audit.VerifyLog(t.Context(), tab, l.Name())
		if err != nil || v.Size != 11 {
			t.Errorf("fault %d: verified %+v: %v", fault, v, err)
		}
	}
}

// G6: an entry whose own block is there is not acknowledged while one before is not.
func TestAcknowledgedInOrder(t *testing.T) {
	tab := newTable(t)
	tab.attempt = 500 * time.Millisecond
	l := tab.openLog(t, "a")
	hung := make(chan struct{})
	n := 0
	tab.faults.On(func(op string) dynamolocal.Fault {
		if op != "PutItem" {
			return dynamolocal.None
		}
		if n++; n == 1 {
			close(hung)
			return dynamolocal.Hanging
		}
		return dynamolocal.None
	})
	first := l.Append([]audit.Entry{anEntry("first")})
	<-hung
	if err := appendOne(t.Context(), l, "second"); err != nil {
		t.Fatal(err)
	}
	if v, err := audit.VerifyLog(t.Context(), tab, l.Name()); err != nil || v.Size != 3 {
		t.Errorf("when the second is acknowledged there is %+v: %v", v, err)
	}
	if _, err := first.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// A claim or a fence whose answer is lost is found again, not taken for another's.
func TestOpenWithLostAnswers(t *testing.T) {
	tab := newTable(t)
	for life := range 3 {
		c := tab.config(t, "a")
		n := 0
		tab.faults.On(func(op string) dynamolocal.Fault {
			if n++; op == "PutItem" && n%2 == life%2 {
				return dynamolocal.Lost
			}
			return dynamolocal.None
		})
		l, err := auditdynamo.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		tab.faults.On(nil)
		if l.Name().Epoch != uint64(life+1) {
			t.Errorf("opened as %v", l.Name())
		}
		l.Close()
	}
	if _, err := audit.Verify(t.Context(), tab); err != nil {
		t.Error(err)
	}
}

// The end of a log is its first free place: before a hole, at a fence, at the
// edges of partitions.
func TestCountBlocks(t *testing.T) {
	tab := newTable(t)
	c := tab.config(t, "a")
	for n, test := range []struct {
		blocks uint64
		holes  []uint64
		fence  bool
		want   uint64
	}{
		{blocks: 0, want: 0},
		{blocks: 0, fence: true, want: 0},
		{blocks: 1, want: 1},
		{blocks: 1, fence: true, want: 1},
		{blocks: 5, holes: []uint64{3}, want: 3},
		{blocks: 5, holes: []uint64{1, 3}, want: 1},
		{blocks: 5, holes: []uint64{0}, want: 0},
		{blocks: auditdynamo.Window - 1, want: auditdynamo.Window - 1},
		{blocks: auditdynamo.Window + 1, want: auditdynamo.Window + 1},
		{blocks: auditdynamo.PerPartition, want: auditdynamo.PerPartition},
		{blocks: auditdynamo.PerPartition, fence: true, want: auditdynamo.PerPartition},
		{blocks: auditdynamo.PerPartition + 1, want: auditdynamo.PerPartition + 1},
		{blocks: auditdynamo.PerPartition + 2, holes: []uint64{auditdynamo.PerPartition - 1}, want: auditdynamo.PerPartition - 1},
		{blocks: auditdynamo.PerPartition + 2, holes: []uint64{auditdynamo.PerPartition}, want: auditdynamo.PerPartition},
		{blocks: 5 * auditdynamo.PerPartition, want: 5 * auditdynamo.PerPartition},
	} {
		log := audit.LogName{Region: "eu-west-1", Instance: fmt.Sprint("i", n), Epoch: 1}
		hole := map[uint64]bool{}
		for _, h := range test.holes {
			hole[h] = true
		}
		var writes []dynamo.Write
		// What is far from the end is not looked at.
		for number := range test.blocks {
			far := number%auditdynamo.PerPartition > 2 && number+2*auditdynamo.Window < test.blocks
			if hole[number] || far {
				continue
			}
			item := auditdynamo.BlockKey(log, number).Item()
			item["block"] = dynamo.Bytes([]byte{1})
			writes = append(writes, dynamo.Write{Put: item})
		}
		if test.fence {
			item := auditdynamo.BlockKey(log, test.blocks).Item()
			item["fence"] = dynamo.Int(1)
			writes = append(writes, dynamo.Write{Put: item})
		}
		if err := tab.Client.BatchWrite(t.Context(), tableName, writes); err != nil {
			t.Fatal(err)
		}
		if got, err := auditdynamo.CountBlocks(&c, t.Context(), log); got != test.want || err != nil {
			t.Errorf("%+v: %d, %v", test, got, err)
		}
	}
}
