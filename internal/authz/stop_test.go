package authz

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"
)

func newStops(tables []RegionControl, log *bytes.Buffer) *Stops {
	return NewStops(StopsConfig{Tables: tables, Now: time.Now, Random: rand.Reader, Logger: zerolog.New(log)})
}

func runningStops(t *testing.T, log *bytes.Buffer, tables []RegionControl) *Stops {
	t.Helper()
	s := newStops(tables, log)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return s
}

// isStopped reports that an instance releases nothing of the tenant.
func isStopped(s *Stops) bool {
	stops, err := s.Of(tenantA)
	return err != nil || len(stops) > 0
}

// Six instances in two regions, started at different moments, one of whose
// region is behind a partition: each refuses within five seconds of the stop's
// being in its table, also where that comes late, by replication.
func TestStopIsInForceWithinFiveSeconds(t *testing.T) {
	slowest := time.Duration(0)
	for _, after := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, 1999 * time.Millisecond} {
		for _, partition := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				local, remote := newMemory(), newMemory()
				unreachable := newMemory()
				unreachable.breaks(fails)
				var near, far []*Stops
				for range 3 {
					to := remote
					if partition {
						to = unreachable
					}
					near = append(near, runningStops(t, new(bytes.Buffer), regions(local, to)))
					far = append(far, runningStops(t, new(bytes.Buffer), regions(remote, local)))
					time.Sleep(600 * time.Millisecond)
				}
				time.Sleep(4*time.Second + after)
				for _, s := range slices.Concat(near, far) {
					if isStopped(s) {
						t.Fatal("it refuses before")
					}
				}
				_, notReached, err := near[0].Stop(t.Context(), tenantA, "test", "operator")
				if err != nil || (notReached != nil) != partition {
					t.Fatal(notReached, err)
				}
				if !isStopped(near[0]) {
					t.Error("not in force where it was made")
				}
				slowest = max(slowest, untilAllRefuse(t, near))
				if partition {
					time.Sleep(time.Minute)
					if isStopped(far[0]) {
						t.Error("the other region cannot know")
					}
					local.copyTo(remote)
				}
				slowest = max(slowest, untilAllRefuse(t, far))
			})
		}
	}
	t.Logf("the last instance refused after %v", slowest)
}

func untilAllRefuse(t *testing.T, all []*Stops) time.Duration {
	t.Helper()
	begun := time.Now()
	for slices.ContainsFunc(all, func(s *Stops) bool { return !isStopped(s) }) {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("an instance does not refuse after five seconds")
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
}

// copyTo is replication: what one table has the other gets.
func (m *memory) copyTo(to *memory) {
	m.mu.Lock()
	items := maps.Clone(m.items)
	m.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	for kind, all := range items {
		for id, body := range all {
			to.put(Item{kind, id, body})
		}
	}
}

// An instance that cannot learn of stops for five seconds refuses everything.
func TestAnInstanceThatCannotLearnOfStopsRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, log := newMemory(), new(bytes.Buffer)
		s := runningStops(t, log, regions(local, newMemory()))
		local.breaks(hangs)
		time.Sleep(4900 * time.Millisecond)
		if isStopped(s) {
			t.Error("within five seconds")
		}
		time.Sleep(101 * time.Millisecond)
		if _, err := s.Of(tenantA); !errors.Is(err, ErrUnavailable) || !errors.Is(s.Ready(), ErrUnavailable) {
			t.Errorf("after five seconds: %v", err)
		}
		local.breaks(works)
		time.Sleep(4 * time.Second)
		if isStopped(s) || s.Ready() != nil {
			t.Error("once it polls again")
		}
		synctest.Wait()
		if lines := strings.Count(log.String(), "\n"); lines != 2 {
			t.Errorf("%d lines logged:\n%s", lines, log)
		}
	})
	if s := newStops(regions(newMemory(), newMemory()), new(bytes.Buffer)); !isStopped(s) {
		t.Error("before the first poll")
	}
}

// What cannot be read stops all, as a stop, and lifts nothing, as a resume;
// the operator's resume names it like any other.
func TestUnreadableStops(t *testing.T) {
	local, log := newMemory(), new(bytes.Buffer)
	s := newStops(regions(local, newMemory()), log)
	for _, item := range []Item{{KindStop, "a", []byte("canary")}, {KindResume, "b", []byte(`{"v":1,"stops":["a"]}`)}} {
		if err := local.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stops, err := s.Of(tenantA); err != nil || len(stops) != 1 || stops[0].ID != "a" {
		t.Fatalf("%+v: %v", stops, err)
	}
	if strings.Contains(log.String(), "canary") || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("logged: %s", log)
	}
	if lifted, _, err := s.Resume(t.Context(), tenantA, "x", "key_x"); err != nil || len(lifted) != 0 || !isStopped(s) {
		t.Errorf("a tenant lifted %v: %v", lifted, err)
	}
	if lifted, _, err := s.Resume(t.Context(), "", "x", "operator"); err != nil || len(lifted) != 1 || isStopped(s) {
		t.Errorf("the operator lifted %v: %v", lifted, err)
	}
}

// "Failed" and "failed but was applied": after an error a stop may be in
// force, and once more is harmless; a resume that failed may be repeated.
func TestStopAndResumeThatFail(t *testing.T) {
	for _, f := range []fault{fails, applied} {
		local := newMemory()
		s := newStops(regions(local, newMemory()), new(bytes.Buffer))
		only := func(kind Kind) func(string, Kind) fault {
			return func(op string, k Kind) fault {
				if k == kind && op != "list" && op != "listed" {
					return f
				}
				return works
			}
		}
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		local.breaksOn(only(KindStop))
		if _, _, err := s.Stop(t.Context(), tenantA, "x", "key_x"); err == nil {
			t.Error("a stop that failed is none")
		}
		local.breaks(works)
		if _, _, err := s.Stop(t.Context(), tenantA, "x", "key_x"); err != nil || !isStopped(s) {
			t.Error(err)
		}
		local.breaksOn(only(KindResume))
		if _, _, err := s.Resume(t.Context(), tenantA, "x", "key_x"); err == nil || !isStopped(s) {
			t.Errorf("a resume that failed: %v", err)
		}
		local.breaks(works)
		if _, _, err := s.Resume(t.Context(), tenantA, "x", "key_x"); err != nil || isStopped(s) {
			t.Errorf("repeated: %v", err)
		}
	}
}

// Stops and resumes of two regions in any order, with a link that comes and
// goes: in the end both regions agree, and a stop is lifted if and only if
// somebody who resumed had it in his region's table.
func TestStopsSurviveAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tables := [2]*memory{newMemory(), newMemory()}
		var log bytes.Buffer
		at := [2]*Stops{newStops(regions(tables[0], tables[1]), &log), newStops(regions(tables[1], tables[0]), &log)}
		has := [2]map[string]bool{{}, {}} // stops in each table
		lifted := map[string]bool{}
		all, cut := map[string]bool{}, false
		ctx := context.Background()
		link := func(from int) { // a cut link fails the other region's table, for this call
			if cut {
				tables[1-from].breaks(fails)
			}
		}
		mend := func() { tables[0].breaks(works); tables[1].breaks(works) }
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"stop 0", "stop 1", "resume 0", "resume 1", "cut", "heal", "replicate"}), 1, 30).Draw(t, "steps")
		for _, step := range steps {
			r := int(step[len(step)-1] - '0')
			switch strings.Fields(step)[0] {
			case "stop":
				link(r)
				id, _, err := at[r].Stop(ctx, tenantA, "x", "key_x")
				mend()
				if err != nil {
					t.Fatal(err)
				}
				all[id], has[r][id] = true, true
				if !cut {
					has[1-r][id] = true
				}
			case "resume":
				link(r)
				got, _, err := at[r].Resume(ctx, tenantA, "x", "key_x")
				mend()
				if err != nil {
					t.Fatal(err)
				}
				for id := range has[r] {
					if !lifted[id] && !slices.Contains(got, id) {
						t.Fatalf("%s was there and is not lifted", id)
					}
				}
				for _, id := range got {
					if !has[r][id] {
						t.Fatalf("%s was not there and is lifted", id)
					}
					lifted[id] = true
				}
			case "cut":
				cut = true
			case "heal":
				cut = false
			case "replicate":
				if !cut {
					tables[0].copyTo(tables[1])
					tables[1].copyTo(tables[0])
					maps.Copy(has[0], has[1])
					maps.Copy(has[1], has[0])
				}
			}
		}
		tables[0].copyTo(tables[1])
		tables[1].copyTo(tables[0])
		want := 0
		for id := range all {
			if !lifted[id] {
				want++
			}
		}
		for r := range at {
			if err := at[r].Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if stops, err := at[r].Of(tenantA); err != nil || len(stops) != want {
				t.Fatalf("region %d: %d stops in force, want %d: %v", r, len(stops), want, err)
			}
		}
	})
}
