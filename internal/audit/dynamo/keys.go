package dynamo

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// Attributes of the audit table besides the keys (docs/design/format.md §7).
const (
	attrBlock = "block" // B: a block
	attrFence = "fence" // N: nothing may be appended here or later
	attrClaim = "claim" // B: an epoch's claim

	claimsPartition = "claims"
	perPartition    = 1000 // blocks
)

// logKey is a log's name with the epoch as 20 digits: byte order is that of
// region, instance and epoch.
func logKey(log audit.LogName) string { return instanceKey(log) + digits(log.Epoch) }

// instanceKey begins the log keys of all epochs of an instance.
func instanceKey(log audit.LogName) string { return log.Region + "/" + log.Instance + "/" }

func digits(n uint64) string { return fmt.Sprintf("%020d", n) }

// parseDigits is the strict inverse of digits.
func parseDigits(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || digits(n) != s {
		return 0, fmt.Errorf("number in a key: %w", audit.ErrCorrupt)
	}
	return n, nil
}

func parseLogKey(key string) (audit.LogName, error) {
	region, rest, _ := strings.Cut(key, "/")
	instance, epoch, _ := strings.Cut(rest, "/")
	n, err := parseDigits(epoch)
	log := audit.LogName{Region: region, Instance: instance, Epoch: n}
	if err != nil || log.Validate() != nil {
		return audit.LogName{}, fmt.Errorf("log key: %w", audit.ErrCorrupt)
	}
	return log, nil
}

func blockKey(log audit.LogName, number uint64) dynamo.Key {
	return dynamo.Key{PK: partition(log, number/perPartition), SK: digits(number)}
}

func partition(log audit.LogName, n uint64) string {
	return log.String() + "#" + strconv.FormatUint(n, 10)
}

func claimKey(log audit.LogName) dynamo.Key {
	return dynamo.Key{PK: claimsPartition, SK: logKey(log)}
}

// noPartition is the number of none.
const noPartition = math.MaxUint64

// readBlock is the block in an item, with its number; nil for a fence.
func readBlock(item dynamo.Item) (number uint64, block []byte, err error) {
	f := dynamo.Read(item)
	number, err = parseDigits(f.String(dynamo.SK))
	if err != nil {
		return 0, nil, err
	}
	if f.Has(attrFence) {
		return number, nil, nil
	}
	block = f.Bytes(attrBlock)
	if f.Err() != nil {
		return 0, nil, fmt.Errorf("block %d: %w", number, audit.ErrCorrupt)
	}
	return number, block, nil
}
