package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"piivault/internal/authz"
	"piivault/internal/crypto"
)

// ErrRingDiffers reports a configured key ring that is not the one which this
// epoch stands for in the deployment.
var ErrRingDiffers = errors.New("vault: the configured key ring differs from the deployment's at this epoch")

// ErrRingSuperseded reports a configured key ring older than one that some
// region's records have all been given: what this instance wrote would lack
// copies, and nobody would look for it. The way back is a new, higher epoch.
var ErrRingSuperseded = errors.New("vault: the configured key ring has been replaced by one of a higher epoch")

// ringID sorts as epochs do.
func ringID(epoch uint64) string { return fmt.Sprintf("%020d", epoch) }

// newerRing reports that an instance of a higher ring epoch has started.
func (v *Vault) newerRing(ctx context.Context) (bool, error) {
	items, err := v.control.List(ctx, authz.KindRing, ringID(v.Ring.Epoch()), 1)
	return len(items) > 0, err
}

// rings are the key rings that instances claimed, by epoch.
type rings map[uint64]crypto.Hash

// rings reads those up to this instance's epoch.
func (v *Vault) rings(ctx context.Context) (rings, error) {
	known := rings{}
	err := eachItem(ctx, v.control, authz.KindRing, "", func(item authz.Item) error {
		if epoch, err := strconv.ParseUint(item.ID, 10, 64); err == nil {
			known[epoch] = crypto.ParseHash(string(item.Body))
		}
		return nil
	})
	return known, err
}

// outdated reports that a record of a tenant's and of this ring epoch was
// wrapped for other keys than that tenant's present ones: most ring changes
// are everybody's, but one of a tenant's own keys is that tenant's alone.
func (v *Vault) outdated(known rings, tenant string, epoch uint64) bool {
	if epoch >= v.Ring.Epoch() {
		return false
	}
	was, ok := known[epoch]
	return !ok || !v.Ring.SameKeys(tenant, was)
}

// ringDone names the regions that have no record left that an older ring wrapped for other keys.
func (v *Vault) ringDone(ctx context.Context) (regions []string, err error) {
	prefix := ringID(v.Ring.Epoch()) + "#"
	items, err := v.control.List(ctx, authz.KindRingDone, prefix, crypto.MaxCopies)
	for _, item := range items {
		if region, ok := strings.CutPrefix(item.ID, prefix); ok {
			regions = append(regions, region)
		}
	}
	return regions, err
}

// ringReady fails once some region's records are all of a newer ring: what this
// instance writes from then on, nobody would look for.
func (v *Vault) ringReady(ctx context.Context) error {
	later, err := v.control.List(ctx, authz.KindRingDone, ringID(v.Ring.Epoch()+1), 1)
	if err != nil {
		return fmt.Errorf("vault: read the ring's epochs: %w", err)
	}
	if len(later) > 0 {
		return ErrRingSuperseded
	}
	return nil
}

// claimRing writes the ring's epoch item, or compares with the one that is
// there (design §5): an instance whose ring differs must not write records.
func (v *Vault) claimRing(ctx context.Context) error {
	if err := v.ringReady(ctx); err != nil {
		return err
	}
	if err := v.ringLoses(ctx); err != nil {
		return err
	}
	item := authz.Item{Kind: authz.KindRing, ID: ringID(v.Ring.Epoch()), Body: []byte(v.Ring.Hash())}
	_, err := authz.InsertEverywhere(ctx, v.Controls, item)
	if errors.Is(err, authz.ErrExists) {
		return ErrRingDiffers
	}
	if err != nil {
		return fmt.Errorf("vault: claim the ring's epoch: %w", err)
	}
	return nil
}
