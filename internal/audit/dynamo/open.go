package dynamo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// window is more than the blocks that a log may have under way at once: a
// hole is never further than that from the last block written.
const window = audit.MaxBehind

// begin claims the next epoch of the instance. First it ends the last epoch's
// log for good: the fence at its first free place lets no process that still
// writes it, paused perhaps, acknowledge anything after.
func (c *Config) begin(ctx context.Context) (audit.Claim, error) {
	first := audit.LogName{Region: c.Client.Region(), Instance: c.Instance, Epoch: 1}
	if err := first.Validate(); err != nil {
		return audit.Claim{}, err
	}
	last, err := c.lastClaim(ctx, first)
	if err != nil {
		return audit.Claim{}, err
	}
	if last != nil {
		return c.succeed(ctx, last)
	}
	return c.claim(ctx, audit.Claim{Log: first, PreviousRoot: audit.EmptyRoot()})
}

// succeed ends a log and claims the epoch after it.
func (c *Config) succeed(ctx context.Context, last *audit.Claim) (audit.Claim, error) {
	claim := audit.Claim{Log: last.Log, PreviousRoot: audit.EmptyRoot()}
	claim.Log.Epoch++
	if err := c.previous(ctx, last, &claim); err != nil {
		return audit.Claim{}, fmt.Errorf("end of log %v: %w", last.Log, err)
	}
	return c.claim(ctx, claim)
}

func (c *Config) claim(ctx context.Context, claim audit.Claim) (audit.Claim, error) {
	claim.Time = c.Now().UnixMilli()
	if _, err := io.ReadFull(c.Random, claim.Nonce[:]); err != nil {
		return audit.Claim{}, fmt.Errorf("nonce: %w", err)
	}
	return claim, c.putClaim(ctx, &claim)
}

func (c *Config) putClaim(ctx context.Context, claim *audit.Claim) error {
	b, err := audit.AppendClaim(nil, claim)
	if err != nil {
		return err
	}
	item := claimKey(claim.Log).Item()
	item[attrClaim] = dynamo.Bytes(b)
	there, _, err := c.Client.PutNew(ctx, c.Table, item)
	if err != nil || there == nil {
		return err
	}
	// The nonce tells an own attempt that got no answer from another's claim.
	if found := dynamo.Read(there); !bytes.Equal(found.Bytes(attrClaim), b) {
		return audit.ErrClaimed
	}
	return nil
}

// lastClaim is the instance's claim of its greatest epoch, nil for none.
func (c *Config) lastClaim(ctx context.Context, of audit.LogName) (last *audit.Claim, err error) {
	err = c.Client.Query(ctx, dynamo.Query{
		Table: c.Table, Where: "pk = :pk AND begins_with(sk, :instance)", Consistent: true, Backward: true, Limit: 1,
		Values: dynamo.Item{":pk": dynamo.String(claimsPartition), ":instance": dynamo.String(instanceKey(of))},
	}, func(item dynamo.Item) (bool, error) {
		log, b, err := readClaim(item)
		if err != nil {
			return false, err
		}
		claim, err := audit.DecodeClaim(b)
		if err == nil && claim.Log != log {
			err = audit.ErrTampered
		}
		last = &claim
		return false, err
	})
	return last, err
}

// previous fences the last log and says in the claim how it ends.
func (c *Config) previous(ctx context.Context, last, claim *audit.Claim) error {
	for {
		blocks, err := c.countBlocks(ctx, last.Log)
		if err != nil {
			return err
		}
		fenced, err := c.fence(ctx, last.Log, blocks)
		if err != nil {
			return err
		}
		if !fenced {
			continue // a block came first
		}
		if blocks == 0 {
			return nil // claimed, and never begun
		}
		end, err := c.tail(ctx, last, blocks)
		if err != nil {
			return err
		}
		claim.PreviousBlocks, claim.PreviousSize, claim.PreviousRoot = blocks, end.First+uint64(end.Count), end.Root
		return nil
	}
}

// fence ends a log at a place, unless there is a block.
func (c *Config) fence(ctx context.Context, log audit.LogName, number uint64) (bool, error) {
	item := blockKey(log, number).Item()
	item[attrFence] = dynamo.Int(1)
	there, _, err := c.Client.PutNew(ctx, c.Table, item)
	return err == nil && (there == nil || dynamo.Read(there).Has(attrFence)), err
}

// tail is the last block that counts, checked against its root, the block
// before and the claim.
func (c *Config) tail(ctx context.Context, claim *audit.Claim, blocks uint64) (audit.Block, error) {
	first, err := c.block(ctx, claim.Log, 0)
	if err != nil {
		return audit.Block{}, err
	}
	if stated, err := audit.DecodeClaim(first.Leaf(0)); err != nil || stated != *claim {
		return audit.Block{}, fmt.Errorf("first leaf is not the claim: %w", audit.ErrTampered)
	}
	last, err := c.block(ctx, claim.Log, blocks-1)
	if err != nil || blocks == 1 {
		return last, err
	}
	before, err := c.block(ctx, claim.Log, blocks-2)
	if err != nil {
		return audit.Block{}, err
	}
	tree := last.Before()
	if tree.Size() != before.First+uint64(before.Count) || tree.Root() != before.Root {
		return audit.Block{}, fmt.Errorf("tree before block %d: %w", blocks-1, audit.ErrTampered)
	}
	return last, nil
}

// block reads and checks one.
func (c *Config) block(ctx context.Context, log audit.LogName, number uint64) (audit.Block, error) {
	item, err := c.Client.Get(ctx, c.Table, blockKey(log, number))
	if err != nil {
		return audit.Block{}, err
	}
	if item == nil {
		return audit.Block{}, fmt.Errorf("block %d is missing: %w", number, audit.ErrTampered)
	}
	_, raw, err := readBlock(item)
	if err != nil {
		return audit.Block{}, err
	}
	block, err := audit.ParseBlock(raw)
	if err == nil && (block.Log != log || block.Number != number) {
		err = fmt.Errorf("not in its place: %w", audit.ErrTampered)
	}
	if err == nil {
		_, err = block.Check()
	}
	if err != nil {
		return audit.Block{}, fmt.Errorf("block %d: %w", number, err)
	}
	return block, nil
}

// countBlocks is the number of the first place without a block, without
// reading all of a log: it looks for the last partition, and in a window
// before the last row.
func (c *Config) countBlocks(ctx context.Context, log audit.LogName) (uint64, error) {
	last, err := c.lastPartition(ctx, log)
	if err != nil || last == noPartition {
		return 0, err
	}
	numbers, err := c.lastRows(ctx, log, last)
	if err == nil && last > 0 && len(numbers) < window {
		var before []place
		before, err = c.lastRows(ctx, log, last-1)
		numbers = append(numbers, before...)
	}
	if err != nil {
		return 0, err
	}
	slices.Reverse(numbers)
	next := numbers[0].number
	if len(numbers) < window {
		next = 0 // these are all
	}
	for _, p := range numbers {
		if p.number != next || p.fence {
			break
		}
		next++
	}
	return next, nil
}

// place is a row of a log.
type place struct {
	number uint64
	fence  bool
}

// lastRows are a partition's, the last first, as many as a window needs.
func (c *Config) lastRows(ctx context.Context, log audit.LogName, n uint64) (places []place, err error) {
	err = c.Client.Query(ctx, dynamo.Query{
		Table: c.Table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(partition(log, n))},
		Attributes: "sk,fence", Consistent: true, Backward: true, Limit: window,
	}, func(item dynamo.Item) (bool, error) {
		f := dynamo.Read(item)
		number, err := parseDigits(f.String(dynamo.SK))
		places = append(places, place{number, f.Has(attrFence)})
		return len(places) < window, err
	})
	return places, err
}

// lastPartition is the log's last that has rows.
func (c *Config) lastPartition(ctx context.Context, log audit.LogName) (uint64, error) {
	some := func(n uint64) (found bool, err error) {
		err = c.Client.Query(ctx, dynamo.Query{
			Table: c.Table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(partition(log, n))},
			Attributes: "sk", Consistent: true, Limit: 1,
		}, func(dynamo.Item) (bool, error) {
			found = true
			return false, nil
		})
		return found, err
	}
	below, above := uint64(noPartition), uint64(0) // has rows; has none, once found
	for step := uint64(1); ; step *= 2 {
		found, err := some(above)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		below, above = above, above+step
	}
	for below != noPartition && above-below > 1 {
		middle := below + (above-below)/2
		found, err := some(middle)
		if err != nil {
			return 0, err
		}
		if found {
			below = middle
		} else {
			above = middle
		}
	}
	return below, nil
}
