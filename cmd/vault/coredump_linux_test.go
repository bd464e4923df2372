package main

import (
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

const coreDumpChild = "VAULT_TEST_CORE_DUMP_CHILD"

// G4: no core dump of a server holds what was in its memory. `serve` and `dev`
// turn dumps off first of all; that a command line they refuse has done it
// shows that nothing comes before.
func TestG4ServersLeaveNoCoreDumps(t *testing.T) {
	if command := os.Getenv(coreDumpChild); command != "" {
		serverWithoutDumps(t, command)
		return
	}
	for _, command := range []string{"serve", "dev"} {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		child.Env = append(os.Environ(), coreDumpChild+"="+command)
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}

// serverWithoutDumps runs in a process of its own.
func serverWithoutDumps(t *testing.T, command string) {
	t.Helper()
	a := newApp()
	a.stdout, a.stderr = t.Output(), t.Output()
	args := map[string][]string{"serve": {"serve", "--config", "/no/such/file"}, "dev": {"dev", "--log", "no-such-level"}}[command]
	if code := run(t.Context(), a, args); code == exitOK {
		t.Fatal("it serves")
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("(%v) the limits are\n%s", err, limits)
	}
	if dumpable, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0); dumpable != 0 || errno != 0 {
		t.Errorf("it can be dumped: %d (%v)", dumpable, errno)
	}
}
