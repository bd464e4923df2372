package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Source reads what is stored. Both functions stop at fn's error and return
// it; the bytes are valid during the call only.
type Source interface {
	// Claims gives every claim that is stored under a log's name.
	Claims(ctx context.Context, fn func(log LogName, item []byte) error) error
	// Blocks gives the log's blocks in order of the number they are stored under.
	Blocks(ctx context.Context, log LogName, fn func(number uint64, block []byte) error) error
}

// MaxBehind is how far behind a log's first free place a block can be: a
// writer has no more under way at once.
const MaxBehind = 128

// Verified says what a log was found to be.
type Verified struct {
	Head
	Claim  Claim  // its first leaf; zero for a log without leaves
	Blocks uint64 // that make up Head
	Void   uint64 // blocks past what the next epoch's claim lets count
	Behind uint64 // blocks behind a hole, of a log of which no claim says where it ends
}

// VerifyLog recomputes every hash of one log from its leaves and compares all
// that the blocks state, and the heads of this log that are known from
// elsewhere. With a known head, any change, removal or reordering of the
// leaves under it and any truncation is found: ErrTampered, or ErrCorrupt
// where the bytes are no encoding. Without one, whoever can write the table
// can have rewritten the log as a whole.
//
// ErrUnfinished is about a log whose last blocks are behind a hole, by
// MaxBehind at most, of which no claim says where it ends and of which no
// known head reaches so far. What is before the hole is verified. That nothing
// was in the hole, or behind it, that was ever acknowledged is not: a crash
// looks so, a log being written may for a moment, in another region than its
// own while blocks replicate, and so would the removal of the block.
func VerifyLog(ctx context.Context, s Source, log LogName, known ...Head) (Verified, error) {
	return verifyLog(ctx, s, &verifier{log: log}, known)
}

// Verify is VerifyLog for every log that is stored or known. Each epoch's
// claim is a known head of its predecessor, so a missing log, a missing claim
// and a predecessor that ends elsewhere are found too. It goes on after a log
// that does not verify; the error joins all findings.
func Verify(ctx context.Context, s Source, known ...Head) ([]Verified, error) {
	return walk(ctx, s, 0, nil, known)
}

// Walk is Verify that tells fn of every entry that it comes by: first those of
// a block, then the next block; those behind a hole too, but no void ones. Of a
// log whose successor began before a time (Unix ms, by the clock of their
// instance) it reads and returns no more than the name. An error of fn ends it.
func Walk(ctx context.Context, s Source, since int64, fn func(Ref, *Entry) error) ([]Verified, error) {
	return walk(ctx, s, since, fn, nil)
}

func walk(ctx context.Context, s Source, since int64, each func(Ref, *Entry) error, known []Head) ([]Verified, error) {
	claims := map[LogName]Claim{}
	err := s.Claims(ctx, func(log LogName, item []byte) error {
		c, err := DecodeClaim(item)
		if err == nil && c.Log != log {
			err = ErrTampered
		}
		if err != nil {
			return fmt.Errorf("claim of %v: %w", log, err)
		}
		claims[log] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	logs, err := logsToVerify(claims, known)
	if err != nil {
		return nil, err
	}
	all := make([]Verified, 0, len(logs))
	var findings []error
	for _, log := range logs {
		of := verifierOf(log, claims)
		if of.each = each; of.next != nil && of.next.Time < since {
			all = append(all, Verified{Head: Head{Log: log.String()}})
			continue
		}
		v, err := verifyLog(ctx, s, of, known)
		if err != nil && !errors.Is(err, ErrTampered) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnfinished) {
			return all, err
		}
		all = append(all, v)
		findings = append(findings, err)
	}
	return all, errors.Join(findings...)
}

func logsToVerify(claims map[LogName]Claim, known []Head) ([]LogName, error) {
	set := map[LogName]bool{}
	for log, c := range claims {
		set[log] = true
		if _, ok := c.Previous(); ok {
			log.Epoch--
			set[log] = true
		}
	}
	for _, h := range known {
		log, err := ParseLogName(h.Log)
		if err != nil {
			return nil, err
		}
		set[log] = true
	}
	return slices.SortedFunc(maps.Keys(set), LogName.Compare), nil
}

func verifierOf(log LogName, claims map[LogName]Claim) *verifier {
	v := &verifier{log: log, claims: true}
	if c, ok := claims[log]; ok {
		v.claim = &c
	}
	next := log
	next.Epoch++
	if c, ok := claims[next]; ok {
		v.next = &c
	}
	return v
}

// verifier rebuilds a log's tree.
type verifier struct {
	log    LogName
	claims bool   // whether claim and next are what the table has
	claim  *Claim // stored under the log's name
	next   *Claim // of the next epoch: where this log ends
	heads  []Head // known ones of this log
	tree   Tree
	first  Claim // leaf 0
	blocks uint64
	void   uint64
	behind uint64
	each   func(Ref, *Entry) error // nil: nobody is told
}

func verifyLog(ctx context.Context, s Source, v *verifier, known []Head) (Verified, error) {
	v.heads = slices.DeleteFunc(slices.Clone(known), func(h Head) bool { return h.Log != v.log.String() })
	if v.next != nil {
		h, _ := v.next.Previous()
		v.heads = append(v.heads, h)
	}
	err := v.reached()
	if err == nil {
		err = s.Blocks(ctx, v.log, v.block)
	}
	if err == nil {
		err = v.finish()
	}
	if err != nil {
		err = fmt.Errorf("log %v: %w", v.log, err)
	}
	head := Head{Log: v.log.String(), Size: v.tree.Size(), Root: v.tree.Root()}
	return Verified{Head: head, Claim: v.first, Blocks: v.blocks, Void: v.void, Behind: v.behind}, err
}

func (v *verifier) block(number uint64, b []byte) error {
	if v.next != nil && v.blocks == v.next.PreviousBlocks {
		v.void++
		return nil
	}
	k, err := ParseBlock(b)
	if err != nil {
		return fmt.Errorf("block %d: %w", number, err)
	}
	if k.Log == v.log && k.Number == number && v.maybeBehind(number) {
		return v.behindHole(&k)
	}
	if k.Log != v.log || k.Number != number || number != v.blocks || k.First != v.tree.Size() {
		return fmt.Errorf("block %d is not in its place: %w", number, ErrTampered)
	}
	if string(k.edge) != string(v.tree.appendEdge(nil)) {
		return fmt.Errorf("tree before block %d: %w", number, ErrTampered)
	}
	for index, leaf := range k.Leaves() {
		if err := v.leaf(index, leaf); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
	}
	if k.Root != v.tree.Root() {
		return fmt.Errorf("root of block %d: %w", number, ErrTampered)
	}
	v.blocks++
	return nil
}

// maybeBehind reports a place behind the log's first free one that a block may
// be in, the next epoch not having said where the log ends. The first block is
// there before any other is begun.
func (v *verifier) maybeBehind(number uint64) bool {
	return v.next == nil && 0 < v.blocks && v.blocks < number && number-v.blocks <= MaxBehind
}

// behindHole takes a block that counts for nothing as long as there is a hole before it.
func (v *verifier) behindHole(k *Block) error {
	if _, err := k.Check(); err != nil {
		return err
	}
	if k.First <= v.tree.Size() {
		return fmt.Errorf("block %d is not behind a hole: %w", k.Number, ErrTampered)
	}
	v.behind++
	for index, leaf := range k.Leaves() {
		if err := v.entry(index, leaf); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
	}
	return nil
}

func (v *verifier) entry(index uint64, leaf []byte) error {
	e, err := DecodeEntry(leaf)
	if err != nil || v.each == nil {
		return err
	}
	return v.each(Ref{Log: v.log.String(), Index: index}, &e)
}

func (v *verifier) leaf(index uint64, leaf []byte) (err error) {
	if index > 0 {
		err = v.entry(index, leaf)
	} else if v.first, err = DecodeClaim(leaf); err == nil && v.first.Log != v.log {
		err = ErrTampered
	}
	if err != nil {
		return err
	}
	v.tree.Add(tlog.RecordHash(leaf))
	return v.reached()
}

// reached compares the heads known for the tree's present size.
func (v *verifier) reached() error {
	for _, h := range v.heads {
		if h.Size == v.tree.Size() && h.Root != v.tree.Root() {
			return fmt.Errorf("a known root of %d leaves: %w", h.Size, ErrTampered)
		}
	}
	return nil
}

func (v *verifier) finish() error {
	for _, h := range v.heads {
		if h.Size > v.tree.Size() {
			return fmt.Errorf("%d leaves where a known head has %d: %w", v.tree.Size(), h.Size, ErrTampered)
		}
	}
	if v.next != nil && (v.blocks != v.next.PreviousBlocks || v.tree.Size() != v.next.PreviousSize) {
		return fmt.Errorf("end other than the next epoch's claim says: %w", ErrTampered)
	}
	if v.claims && v.claim == nil {
		return fmt.Errorf("claim is missing: %w", ErrTampered)
	}
	if v.claim != nil && v.blocks > 0 && *v.claim != v.first {
		return fmt.Errorf("claim is not the first leaf: %w", ErrTampered)
	}
	if v.behind > 0 {
		return fmt.Errorf("block %d is missing and %d behind it are there: %w", v.blocks, v.behind, ErrUnfinished)
	}
	return nil
}
