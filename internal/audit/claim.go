package audit

import (
	"encoding/binary"
	"fmt"
)

// NonceSize is the length of a claim's nonce.
const NonceSize = 16

// Claim is the first leaf of a log, covered by every root: who began it, and
// how the instance's previous log ended. It is also stored on its own, under
// the log's name and only if there is none, which is how an epoch is claimed;
// the nonce tells two claims of one epoch apart.
type Claim struct {
	Log   LogName
	Nonce [NonceSize]byte
	Time  int64 // Unix milliseconds
	// The log of epoch-1 is its first PreviousBlocks blocks, whose tree has
	// PreviousSize leaves and PreviousRoot; anything past them is void. All
	// zero, with EmptyRoot, for epoch 1.
	PreviousBlocks, PreviousSize uint64
	PreviousRoot                 Hash
}

// Previous is the head that the claim states for its predecessor; ok is false
// for epoch 1.
func (c *Claim) Previous() (h Head, ok bool) {
	if c.Log.Epoch == 1 {
		return Head{}, false
	}
	previous := c.Log
	previous.Epoch--
	return Head{Log: previous.String(), Size: c.PreviousSize, Root: c.PreviousRoot}, true
}

func (c *Claim) valid() bool {
	if c.Log.Validate() != nil || c.PreviousBlocks > c.PreviousSize {
		return false
	}
	if c.PreviousSize == 0 || c.Log.Epoch == 1 {
		return c.PreviousBlocks == 0 && c.PreviousSize == 0 && c.PreviousRoot == EmptyRoot()
	}
	return c.PreviousBlocks > 0
}

// AppendClaim appends the claim's one encoding (docs/design/format.md §7), or
// returns ErrName.
func AppendClaim(dst []byte, c *Claim) ([]byte, error) {
	if !c.valid() {
		return dst, fmt.Errorf("claim: %w", ErrName)
	}
	dst = append(dst, leafClaimV1)
	dst = appendString(dst, c.Log.String())
	dst = append(dst, c.Nonce[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.Time))
	dst = binary.BigEndian.AppendUint64(dst, c.PreviousBlocks)
	dst = binary.BigEndian.AppendUint64(dst, c.PreviousSize)
	return append(dst, c.PreviousRoot[:]...), nil
}

// DecodeClaim is AppendClaim's strict inverse; ErrCorrupt for all else.
func DecodeClaim(leaf []byte) (Claim, error) {
	if len(leaf) == 0 || leaf[0] != leafClaimV1 {
		return Claim{}, fmt.Errorf("claim version: %w", ErrCorrupt)
	}
	c := cutter{rest: string(leaf[1:])}
	log, err := ParseLogName(c.string(MaxString))
	claim := Claim{Log: log}
	copy(claim.Nonce[:], c.take(NonceSize))
	claim.Time = int64(c.uint64())
	claim.PreviousBlocks = c.uint64()
	claim.PreviousSize = c.uint64()
	claim.PreviousRoot = c.hash()
	if err != nil || c.bad || c.rest != "" || !claim.valid() {
		return Claim{}, fmt.Errorf("claim: %w", ErrCorrupt)
	}
	return claim, nil
}
