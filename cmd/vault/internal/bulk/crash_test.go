package bulk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"piivault/cmd/vault/internal/bulk"
)

// runFiles in the order of a snapshot: a kill leaves an output that is at
// least as new as its journal.
var runFiles = []string{"out.journal", "refused", "out"}

// frozen is a clock that never asks for a sync, which is slow.
func frozen() time.Time { return time.Time{} }

type snapshot map[string]string

func take(t *testing.T, dir string) snapshot {
	t.Helper()
	s := snapshot{}
	for _, name := range runFiles {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			s[name] = string(b)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	return s
}

// restore puts a snapshot into a directory of its own.
func (w *world) restore(t *testing.T, s snapshot) {
	t.Helper()
	w.dir = t.TempDir()
	for name, text := range s {
		write(t, w.path(name), text)
	}
}

// TestAKillAtEveryStep takes what the files hold at every step of a run, goes
// on from each, and wants the bytes of the undisturbed run and no token that
// the undisturbed run did not make.
func TestAKillAtEveryStep(t *testing.T) {
	w := newWorld(t, people(40))
	var kills []snapshot
	w.step = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		kills = append(kills, take(t, w.dir))
	}
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	w.step = func() {}
	want, made := take(t, w.dir), len(w.vault.Records())
	w.checkOut(t)
	if len(kills) < 80 {
		t.Fatalf("only %d steps", len(kills))
	}
	resumed := map[int64]bool{}
	for i, s := range kills {
		w.restore(t, s)
		c := w.config()
		c.Random = rand.NewChaCha8([32]byte{9}) // the journal's id counts, not a new one
		c.Parallel, c.Now = 1+i%5, frozen
		result, err := bulk.Run(t.Context(), c)
		if err != nil {
			t.Fatalf("killed at step %d: %v", i, err)
		}
		resumed[result.Resumed] = true
		if got := take(t, w.dir); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("killed at step %d, it wrote\n%v\nwant\n%v", i, got, want)
		}
	}
	if len(resumed) < 10 {
		t.Errorf("the kills resumed at %d places only", len(resumed))
	}
	if n := len(w.vault.Records()); n != made {
		t.Errorf("%d tokens, %d without kills", n, made)
	}
}

// TestATornJournal cuts the journal of a killed run about everywhere.
func TestATornJournal(t *testing.T) {
	w := newWorld(t, people(6))
	var last snapshot
	w.step = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		last = take(t, w.dir)
	}
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	w.step = func() {}
	want := take(t, w.dir)
	journal := last["out.journal"]
	head := strings.IndexByte(journal, '\n') + 1
	for cut := 0; cut < len(journal); cut += 5 {
		last["out.journal"] = journal[:cut]
		w.restore(t, last)
		c := w.config()
		c.Now = frozen
		_, err := bulk.Run(t.Context(), c)
		if cut < head {
			// Nothing was sent under it, so the output is somebody else's.
			if !errors.Is(err, bulk.ErrExists) {
				t.Fatalf("cut in the head at %d: %v", cut, err)
			}
			continue
		}
		if got := take(t, w.dir); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("cut at %d: %v, it wrote\n%v\nwant\n%v", cut, err, got, want)
		}
	}
	w.restore(t, snapshot{"out.journal": journal[:head-1]})
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Errorf("killed while the head was written: %v", err)
	}
}

// half runs until about the middle, as a kill leaves it.
func half(t *testing.T) (*world, snapshot) {
	t.Helper()
	w := newWorld(t, people(40))
	var kills []snapshot
	w.step = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		kills = append(kills, take(t, w.dir))
	}
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	w.step = func() {}
	return w, kills[len(kills)/2]
}

func TestResumptionRefusesWhatIsNotTheSame(t *testing.T) {
	w, s := half(t)
	in := read(t, w.input)
	flip := func(text string, at int) string { return text[:at] + string(text[at]^1) + text[at+1:] }
	journal := s["out.journal"]
	lines := strings.SplitAfter(journal, "\n")
	tests := []struct {
		name   string
		change func(c *bulk.Config)
		files  snapshot
		input  string
		want   error
	}{
		{name: "the same", want: nil},
		{name: "another mapping", change: func(c *bulk.Config) { c.Plan["--map"] = "email=name" }, want: bulk.ErrOtherRun},
		{name: "one setting more", change: func(c *bulk.Config) { c.Plan["--x"] = "y" }, want: bulk.ErrOtherRun},
		{name: "one setting less", change: func(c *bulk.Config) { delete(c.Plan, "--map") }, want: bulk.ErrOtherRun},
		{name: "another byte of input", input: flip(in, len(in)-3), want: bulk.ErrOtherRun},
		{name: "more input", input: in + in, want: bulk.ErrOtherRun},
		{name: "output too short", files: snapshot{"out": "x"}, want: bulk.ErrDamaged},
		{name: "output gone", files: snapshot{"out": ""}, want: bulk.ErrDamaged},
		{name: "report too short", files: snapshot{"refused": "x"}, want: bulk.ErrDamaged},
		{name: "head damaged", files: snapshot{"out.journal": flip(journal, 12)}, want: bulk.ErrDamaged},
		{name: "middle damaged", files: snapshot{"out.journal": flip(journal, len(lines[0])+12)}, want: bulk.ErrDamaged},
		{name: "not a journal", files: snapshot{"out.journal": "hello\nworld\n"}, want: bulk.ErrDamaged},
		{name: "a line without end", files: snapshot{"out.journal": strings.Repeat("x", 2<<20)}, want: bulk.ErrDamaged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := snapshot{}
			for _, name := range runFiles {
				text, changed := test.files[name]
				if !changed {
					text = s[name]
				}
				if text != "" {
					files[name] = text
				}
			}
			w.restore(t, files)
			if test.input != "" {
				write(t, w.input, test.input)
				t.Cleanup(func() { write(t, w.input, in) })
			}
			c := w.config()
			if test.change != nil {
				test.change(&c)
			}
			before := w.vault.Requests("/v1/tokenize")
			if _, err := bulk.Run(t.Context(), c); !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Fatalf("error %v", err)
			}
			if test.want == nil {
				return
			}
			if w.vault.Requests("/v1/tokenize") != before {
				t.Error("values were sent all the same")
			}
			if got := take(t, w.dir); got["out"] != files["out"] || got["out.journal"] != files["out.journal"] {
				t.Error("files were changed all the same")
			}
			c.Force, c.Random = true, rand.NewChaCha8([32]byte{11})
			if _, err := bulk.Run(t.Context(), c); err != nil {
				t.Errorf("with force: %v", err)
			}
		})
	}
}

// What stands behind the last note in the journal goes, whatever it is.
func TestResumptionCutsOffWhatIsNotInTheJournal(t *testing.T) {
	w, s := half(t)
	want := func() snapshot {
		w.restore(t, s)
		if _, err := bulk.Run(t.Context(), w.config()); err != nil {
			t.Fatal(err)
		}
		return take(t, w.dir)
	}()
	s["out"] += strings.Repeat("x", 1<<20)
	s["refused"] += strings.Repeat("y", 1<<20)
	w.restore(t, s)
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(take(t, w.dir)) != fmt.Sprint(want) {
		t.Error("something was left")
	}
}

func TestOneRunAtATime(t *testing.T) {
	w := newWorld(t, people(40))
	var inner, forced error
	tried := false
	w.step = func() {
		w.mu.Lock()
		now := tried
		tried = true
		w.mu.Unlock()
		if now {
			return
		}
		other := w.config()
		_, inner = bulk.Run(t.Context(), other)
		other.Force = true
		_, forced = bulk.Run(t.Context(), other)
	}
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(inner, bulk.ErrBusy) || !errors.Is(forced, bulk.ErrBusy) {
		t.Errorf("a second run at the same time: %v; with force: %v", inner, forced)
	}
	w.checkOut(t)
}

func TestTheInputIsNeverWrittenOver(t *testing.T) {
	w := newWorld(t, people(4))
	link := w.path("link")
	if err := os.Link(w.input, link); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		c := w.config()
		c.Output, c.Force = link, force
		if _, err := bulk.Run(t.Context(), c); !errors.Is(err, bulk.ErrExists) {
			t.Errorf("as output, force %v: %v", force, err)
		}
		c = w.config()
		c.Refused, c.Force = w.input, force
		if _, err := bulk.Run(t.Context(), c); !errors.Is(err, bulk.ErrExists) {
			t.Errorf("as report, force %v: %v", force, err)
		}
	}
	if read(t, w.input) != people(4) {
		t.Error("the input has changed")
	}
}
