package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// maxKills bounds a test's kills: where there are more steps it strides.
const maxKills = 90

// killed is how a child ended.
type killed struct {
	acks []ack
	done bool // it ended by itself
}

// runChild runs the script in a process that kills itself at step n.
func runChild(t *testing.T, dir, key string, n int, after bool) killed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=script", dirEnv+"="+dir, keyEnv+"="+key, killEnv+"="+strconv.Itoa(n))
	if after {
		cmd.Env = append(cmd.Env, afterEnv+"=1")
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || err != nil && (!status.Signaled() || status.Signal() != syscall.SIGKILL) {
		t.Fatalf("killed at step %d: %v: %s", n, err, stderr.String())
	}
	var acks []ack
	for line := range bytes.Lines(out.Bytes()) {
		var a ack
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		acks = append(acks, a)
	}
	return killed{acks, err == nil}
}

// copyOf gives each child a directory of its own.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "world")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	// CopyFS widens modes; master keys are refused where others can read them.
	keys, err := filepath.Glob(filepath.Join(to, "*", "kms.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range keys {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// countSteps runs a child to its end and counts its steps by bisection: one
// that outlives its kill was never killed.
func countSteps(t *testing.T, dies func(n int) bool) int {
	t.Helper()
	low, high := 0, 1 // a child dies at low and outlives high
	for dies(high) {
		low, high = high, 2*high
	}
	for high-low > 1 {
		if mid := (low + high) / 2; dies(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// strideOf spreads at most maxKills over the steps, two variants each.
func strideOf(steps int) int { return 1 + 2*steps/maxKills }

// G1, G6, G9: a process that serves both regions is killed with -9 at every
// step of tokenize, detokenize and erase, before and after the step. What it
// acknowledged is there, what it released is audited, nothing is half done.
func TestKill9AtEveryStep(t *testing.T) {
	made := t.TempDir()
	key := makeWorld(t, made, nil)
	steps := countSteps(t, func(n int) bool { return !runChild(t, copyOf(t, made), key, n, false).done })
	stride, kills := strideOf(steps), 0
	for n := 1; n <= steps; n += stride {
		for _, when := range []string{"before", "after"} {
			kills++
			t.Run(fmt.Sprintf("%s step %d of %d", when, n, steps), func(t *testing.T) {
				dir := copyOf(t, made)
				child := runChild(t, dir, key, n, when == "after")
				(&survivor{t: t, dir: dir, key: key, acks: child.acks}).check()
			})
		}
	}
	t.Logf("%d steps, %d kills (at every %d. step)", steps, kills, stride)
	complete(t, copyOf(t, made), key)
}

// complete runs the script undisturbed, so that the others are known to have
// been interrupted in something whole.
func complete(t *testing.T, dir, key string) {
	t.Helper()
	child := runChild(t, dir, key, 0, false)
	if !child.done || len(child.acks) != 8 {
		t.Fatalf("undisturbed, the script got %d answers", len(child.acks))
	}
	(&survivor{t: t, dir: dir, key: key, acks: child.acks}).check()
}

// G1: a first start that is killed at any step leaves what the next one can
// make whole.
func TestKill9AtEveryStepOfTheFirstStart(t *testing.T) {
	steps := countSteps(t, func(n int) bool { return !runChild(t, t.TempDir(), "", n, false).done })
	stride := strideOf(6 * steps)
	for n := 1; n <= steps; n += stride {
		t.Run(fmt.Sprintf("step %d of %d", n, steps), func(t *testing.T) {
			dir := t.TempDir()
			child := runChild(t, dir, "", n, n%2 == 0)
			if len(child.acks) > 0 {
				complete(t, dir, child.acks[0].Secret)
			} else {
				complete(t, dir, makeWorld(t, dir, nil))
			}
		})
	}
	t.Logf("%d steps, a kill at every %d. step", steps, stride)
}

// cut is the disk as a power failure leaves it, with the answers that the
// client had by then.
type cut struct {
	fs   *vfs.MemFS
	acks []ack
}

// power cuts the power before every step of a script, without disturbing it.
type power struct {
	mem    *vfs.MemFS
	dirs   []string // directories whose entries are durable at once
	lose   vfs.CrashCloneCfg
	mu     sync.Mutex // guards what follows, and lose.RNG
	answer []ack
	cuts   []cut
}

func (p *power) step(do func() error) error {
	p.mu.Lock()
	p.cuts = append(p.cuts, cut{p.mem.CrashClone(p.lose), slices.Clip(p.answer)})
	p.mu.Unlock()
	err := do()
	for _, path := range p.dirs {
		if dir, derr := p.mem.OpenDir(path); derr == nil {
			err = errors.Join(err, dir.Sync(), dir.Close())
		}
	}
	return err
}

func (p *power) said(a ack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = append(p.answer, a)
}

// G1, G6, G9: the same, but the machine loses power. Either all that was not
// synced is lost, or each block of it with a chance of a half. (In the second
// case the entries of directories keep their order, as journals of file
// systems do: Pebble counts on it.)
func TestPowerCutAtEveryStep(t *testing.T) {
	const seed = 1
	for _, percent := range []int{0, 50} {
		dir := t.TempDir()
		p := &power{mem: vfs.NewCrashableMem(), lose: vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 0))}}
		key := makeWorld(t, dir, p.mem)
		if percent > 0 {
			p.dirs = []string{filepath.Join(dir, regionA, "data"), filepath.Join(dir, regionB, "data")}
		}
		if err := runScript(t.Context(), dir, &stepFS{p.mem, p.step}, key, p.said); err != nil {
			t.Fatal(err)
		}
		for i, c := range p.cuts {
			if i%2 != percent/50 {
				continue // one variant at the odd steps, one at the even ones
			}
			t.Run(fmt.Sprintf("before step %d of %d, %d %%", i+1, len(p.cuts), percent), func(t *testing.T) {
				(&survivor{t: t, dir: dir, fs: c.fs, key: key, acks: c.acks}).check()
			})
		}
		t.Logf("%d steps, %d power cuts with %d %% of what was not synced, seed %d", len(p.cuts), len(p.cuts)/2, percent, seed)
	}
}
