package embedded

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sort"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

// nextClaim makes the claim of the epoch after the instance's last.
func nextClaim(c Config) (audit.Claim, error) {
	claim := audit.Claim{
		Log:          audit.LogName{Region: c.Region, Instance: c.Instance, Epoch: 1},
		Time:         c.Now().UnixMilli(),
		PreviousRoot: audit.EmptyRoot(),
	}
	if err := claim.Log.Validate(); err != nil {
		return audit.Claim{}, err
	}
	if _, err := io.ReadFull(c.Random, claim.Nonce[:]); err != nil {
		return audit.Claim{}, fmt.Errorf("nonce: %w", err)
	}
	last, err := lastClaim(c.Engine, claim.Log)
	if err != nil || last == nil {
		return claim, err
	}
	claim.Log.Epoch = last.Log.Epoch + 1
	end, err := tail(c.Engine, last)
	if err != nil {
		return audit.Claim{}, fmt.Errorf("tail of log %v: %w", last.Log, err)
	}
	claim.PreviousBlocks = end.Number + 1
	claim.PreviousSize = end.First + uint64(end.Count)
	claim.PreviousRoot = end.Root
	return claim, nil
}

// lastClaim is the instance's claim of its greatest epoch, nil for none.
func lastClaim(e *wal.Engine, of audit.LogName) (last *audit.Claim, err error) {
	from, to := claimsOf(of)
	err = e.Scan(tableID, from, to, func(key, item []byte) (bool, error) {
		claim, err := audit.DecodeClaim(item)
		if err == nil && string(claimKey(claim.Log)) != string(key) {
			err = audit.ErrTampered
		}
		last = &claim
		return true, err
	})
	return last, err
}

// tail is the last block of a log that this engine wrote. A commit is atomic
// and ordered, so a tail is never half there: a missing first block, a block
// past a hole, or one that does not fit its root or its predecessor is damage.
func tail(e *wal.Engine, claim *audit.Claim) (audit.Block, error) {
	count, err := countBlocks(e, claim.Log)
	if err != nil {
		return audit.Block{}, err
	}
	if count == 0 {
		return audit.Block{}, fmt.Errorf("no first block: %w", audit.ErrTampered)
	}
	first, err := readBlock(e, claim.Log, 0)
	if err != nil {
		return audit.Block{}, err
	}
	if c, err := audit.DecodeClaim(first.Leaf(0)); err != nil || c != *claim {
		return audit.Block{}, fmt.Errorf("first leaf is not the claim: %w", audit.ErrTampered)
	}
	last, err := readBlock(e, claim.Log, count-1)
	if err != nil || count == 1 {
		return last, err
	}
	previous, err := readBlock(e, claim.Log, count-2)
	if err != nil {
		return audit.Block{}, err
	}
	before := last.Before()
	if before.Size() != previous.First+uint64(previous.Count) || before.Root() != previous.Root {
		return audit.Block{}, fmt.Errorf("tree before block %d: %w", count-1, audit.ErrTampered)
	}
	return last, nil
}

// countBlocks finds the end of a log without reading all of it.
func countBlocks(e *wal.Engine, log audit.LogName) (uint64, error) {
	var fault error
	exists := func(number uint64) (found bool) {
		err := e.GetMany(tableID, [][]byte{blockKey(log, number)}, func(_ int, value []byte) error {
			found = value != nil
			return nil
		})
		if err != nil {
			fault = err
		}
		return found
	}
	bound := 1
	for bound < math.MaxInt/2 && exists(uint64(bound)) {
		bound *= 2
	}
	n := uint64(sort.Search(bound, func(i int) bool { return !exists(uint64(i)) }))
	if fault != nil {
		return 0, fault
	}
	err := e.Scan(tableID, blockKey(log, n), blockKey(log, math.MaxUint64), func([]byte, []byte) (bool, error) {
		return false, fmt.Errorf("block %d is missing: %w", n, audit.ErrTampered)
	})
	return n, err
}

// readBlock reads and checks a block.
func readBlock(e *wal.Engine, log audit.LogName, number uint64) (audit.Block, error) {
	b, err := e.Get(tableID, blockKey(log, number))
	if errors.Is(err, wal.ErrNotFound) {
		return audit.Block{}, fmt.Errorf("block %d is missing: %w", number, audit.ErrTampered)
	}
	if err != nil {
		return audit.Block{}, fmt.Errorf("block %d: %w", number, err)
	}
	block, err := audit.ParseBlock(b)
	if err != nil {
		return audit.Block{}, fmt.Errorf("block %d: %w", number, err)
	}
	if block.Log != log || block.Number != number {
		return audit.Block{}, fmt.Errorf("block %d is not in its place: %w", number, audit.ErrTampered)
	}
	if _, err := block.Check(); err != nil {
		return audit.Block{}, err
	}
	return block, nil
}
