package sim

import (
	"errors"
	"slices"
	"time"

	"piivault/internal/crypto/localkms"
)

var errLinkDown = errors.New("sim: the link is down")

// ErrFault reports a region or a switch position that does not exist.
var ErrFault = errors.New("sim: no such region or fault")

// slowAnswer is how long a slow KMS takes for an answer: below the ring's timeout.
const slowAnswer = 300 * time.Millisecond

// Fault is the position of a region's fault switches; "" leaves one as it is.
type Fault struct {
	Region string
	KMS    string // up, down, slow, denied
	Link   string // up, down
}

// Set turns a region's fault switches; nothing changes on ErrFault.
func (w *World) Set(f Fault) error {
	i := slices.IndexFunc(w.ring, func(k *kmsRegion) bool { return k.name == f.Region })
	if i < 0 {
		return ErrFault
	}
	var kms localkms.Fault
	switch f.KMS {
	case "", "up":
		kms = localkms.Up
	case "down":
		kms = localkms.Down
	case "slow":
		kms = localkms.Slow
	case "denied":
		kms = localkms.Denied
	default:
		return ErrFault
	}
	switch f.Link {
	case "", "up", "down":
	default:
		return ErrFault
	}
	if f.KMS != "" {
		w.ring[i].kms.SetFault(kms, slowAnswer)
	}
	if r := w.Region(f.Region); r != nil && f.Link != "" {
		r.cut.Store(f.Link == "down")
	}
	return nil
}
