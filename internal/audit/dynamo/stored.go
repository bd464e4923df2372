package dynamo

import (
	"context"
	"errors"
	"fmt"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// Stored is what an audit table holds, for audit.Verify.
type Stored struct {
	Client *dynamo.Client
	Table  string
}

var _ audit.Source = Stored{}

// fault says what an error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dynamo.ErrCorrupt):
		return fmt.Errorf("audit: %s: %w: %w", doing, audit.ErrCorrupt, err)
	case errors.Is(err, audit.ErrCorrupt), errors.Is(err, audit.ErrTampered), errors.Is(err, audit.ErrClaimed), errors.Is(err, audit.ErrName):
		return fmt.Errorf("audit: %s: %w", doing, err)
	}
	return fmt.Errorf("audit: %s: %w: %w", doing, audit.ErrUnavailable, err)
}

// stopped carries an error of a caller's function past fault.
type stopped struct{ err error }

func (s stopped) Error() string { return s.err.Error() }

func unwrapped(doing string, err error) error {
	if s, ok := errors.AsType[stopped](err); ok {
		return s.err
	}
	return fault(doing, err)
}

// Claims implements audit.Source.
func (s Stored) Claims(ctx context.Context, fn func(audit.LogName, []byte) error) error {
	return unwrapped("claims", s.claims(ctx, func(log audit.LogName, item []byte) error {
		if err := fn(log, item); err != nil {
			return stopped{err}
		}
		return nil
	}))
}

func (s Stored) claims(ctx context.Context, fn func(audit.LogName, []byte) error) error {
	return s.Client.Query(ctx, dynamo.Query{
		Table: s.Table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(claimsPartition)}, Consistent: true,
	}, func(item dynamo.Item) (bool, error) {
		log, claim, err := readClaim(item)
		if err != nil {
			return false, err
		}
		return true, fn(log, claim)
	})
}

func readClaim(item dynamo.Item) (audit.LogName, []byte, error) {
	f := dynamo.Read(item)
	claim := f.Bytes(attrClaim)
	log, err := parseLogKey(f.String(dynamo.SK))
	if err == nil {
		err = f.Err()
	}
	return log, claim, err
}

// Blocks implements audit.Source. A log ends with the first of its partitions
// that is empty; whoever knows a later head finds out if that is a lie.
func (s Stored) Blocks(ctx context.Context, log audit.LogName, fn func(uint64, []byte) error) error {
	return unwrapped("blocks", s.blocks(ctx, log, 0, func(number uint64, block []byte) (bool, error) {
		if block == nil {
			return true, nil
		}
		if err := fn(number, block); err != nil {
			return false, stopped{err}
		}
		return true, nil
	}))
}

// blocks calls fn for each block from a number on, nil for a fence, until it
// has enough.
func (s Stored) blocks(ctx context.Context, log audit.LogName, from uint64, fn func(uint64, []byte) (bool, error)) error {
	for n := from / perPartition; ; n++ {
		empty, enough := true, false
		err := s.Client.Query(ctx, dynamo.Query{
			Table: s.Table, Where: "pk = :pk AND sk >= :from", Consistent: true,
			Values: dynamo.Item{":pk": dynamo.String(partition(log, n)), ":from": dynamo.String(digits(from))},
		}, func(item dynamo.Item) (bool, error) {
			empty = false
			number, block, err := readBlock(item)
			if err != nil {
				return false, err
			}
			more, err := fn(number, block)
			enough = !more
			return more, err
		})
		// Of a partition that is begun in its midst, emptiness says nothing.
		if err != nil || enough || empty && from <= n*perPartition {
			return err
		}
	}
}
