package main

import (
	"errors"
	"strings"
	"testing"

	"piivault/internal/vault"
)

func TestDoctorOnANewRing(t *testing.T) {
	lost := vault.RingLoss{Records: 2}
	for name, c := range map[string]struct {
		loss          vault.RingLoss
		err           error
		accepted      bool
		bad, warnings int
		says          string
	}{
		"nothing":  {says: "ok    no instance has claimed ring epoch 2 yet"},
		"unknown":  {err: errors.New("out"), warnings: 1, says: "cannot be told"},
		"records":  {loss: lost, bad: 1, says: "nobody could open 2 records and 0 tenant secrets\n      → leave the ring"},
		"given up": {loss: lost, accepted: true, warnings: 1, says: "ring.accept_loss gives them up"},
		"too many": {loss: vault.RingLoss{Unknown: true}, bad: 1, says: "more to look at"},
	} {
		f, out := newFindings()
		f.loss(2, c.loss, c.err, c.accepted)
		if f.bad != c.bad || f.warnings != c.warnings || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %d bad, %d warnings: %s", name, f.bad, f.warnings, out)
		}
	}
}
