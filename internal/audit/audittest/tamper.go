package audittest

import (
	"errors"
	"slices"
	"testing"

	"piivault/internal/audit"
)

// testTampering: change, removal, reordering and truncation of stored blocks
// are found by whoever has a later root (G7, the local part).
func testTampering(t *testing.T, tab Table) {
	t.Helper()
	for name, tamper := range map[string]func(t *testing.T, log audit.LogName){
		"change": func(t *testing.T, log audit.LogName) {
			tab.Rewrite(t, log, 2, func(b []byte) []byte {
				b[len(b)-audit.HashSize-3] ^= 1
				return b
			})
		},
		"change of a root": func(t *testing.T, log audit.LogName) {
			tab.Rewrite(t, log, 2, func(b []byte) []byte {
				b[len(b)-1] ^= 1
				return b
			})
		},
		"removal":    func(t *testing.T, log audit.LogName) { remove(t, tab, log, 3) },
		"truncation": func(t *testing.T, log audit.LogName) { remove(t, tab, log, 5) },
		"reordering": func(t *testing.T, log audit.LogName) {
			var second, third []byte
			tab.Rewrite(t, log, 2, func(b []byte) []byte { second = slices.Clone(b); return b })
			tab.Rewrite(t, log, 3, func(b []byte) []byte { third = slices.Clone(b); return second })
			tab.Rewrite(t, log, 2, func([]byte) []byte { return third })
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := tab.Open(t, "a")
			for n := range 5 {
				add(t, i, entry("%d", n))
			}
			tab.Close(t, i)
			head := verify(t, tab, i.Name())
			tamper(t, i.Name())
			_, err := audit.VerifyLog(t.Context(), tab, i.Name(), head)
			if !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("verify: %v", err)
			}
			restart(t, tab, i.Name())
		})
	}
}

func remove(t *testing.T, tab Table, log audit.LogName, number uint64) {
	t.Helper()
	tab.Rewrite(t, log, number, func([]byte) []byte { return nil })
}

// restart gives the instance a whole log as its last, for the next tampering.
func restart(t *testing.T, tab Table, log audit.LogName) {
	t.Helper()
	for number := uint64(5); number > 0; number-- {
		remove(t, tab, log, number)
	}
}
