package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"piivault/internal/audit"
)

// patient is how long a hole before a block stays before its log is taken for
// one that ended in a crash: a writer that lives fills it, or acknowledges
// nothing meanwhile.
const patient = 2 * time.Minute

// abandoned ends a log of this region's in which there has been a block behind
// a hole for so long: its instance may never come back, and then nothing would
// say where the log ends. Of other regions' logs what is missing may be on its
// way, and only that region knows.
func (x *indexer) abandoned(ctx context.Context, log audit.LogName, f *followed, behind bool) error {
	now := x.log.config.Now()
	switch {
	case !behind || log.Region != x.log.name.Region || log == x.log.name:
		f.stuck = time.Time{}
		return nil
	case f.stuck.IsZero():
		f.stuck = now
	}
	if now.Sub(f.stuck) < patient {
		return nil
	}
	f.stuck = time.Time{}
	if err := x.log.config.end(ctx, log, f.next); err != nil {
		return fmt.Errorf("end log %v: %w", log, err)
	}
	x.logger.Warn().Stringer("log", log).Uint64("blocks", f.next).Msg("an audit log that ended in a crash is closed")
	return nil
}

// end does for a log with a hole what its instance would when it came back: it
// fences the hole, claims the next epoch, saying where the log ends, and begins
// that epoch's log, which nobody goes on with. Should the hole have been
// filled, or the instance come back meanwhile, that is well too.
func (c *Config) end(ctx context.Context, log audit.LogName, hole uint64) error {
	fenced, err := c.fence(ctx, log, hole)
	if err != nil || !fenced {
		return err
	}
	item, err := c.Client.Get(ctx, c.Table, claimKey(log))
	if err != nil {
		return err
	}
	_, raw, err := readClaim(item)
	if err != nil {
		return err
	}
	last, err := audit.DecodeClaim(raw)
	if err != nil {
		return err
	}
	claim, err := c.succeed(ctx, &last)
	if errors.Is(err, audit.ErrClaimed) {
		return nil
	}
	if err != nil {
		return err
	}
	var leaves audit.Leaves
	if err := leaves.EncodeClaim(&claim); err != nil {
		return err
	}
	w := audit.NewWriter(claim.Log)
	w.Add(&leaves)
	var first []byte
	w.Flush(func(_ uint64, b []byte) { first = slices.Clone(b) })
	err = Stored{c.Client, c.Table}.put(ctx, claim.Log, block{0, first})
	if errors.Is(err, errFenced) {
		return nil
	}
	return err
}
