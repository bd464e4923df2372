package vault

import (
	"context"
	"errors"
	"fmt"

	"piivault/internal/authz"
)

// ErrRingDiffers reports a configured key ring that is not the one which this
// epoch stands for in the deployment.
var ErrRingDiffers = errors.New("vault: the configured key ring differs from the deployment's at this epoch")

// claimRing writes the ring's epoch item, or compares with the one that is
// there (design §5): an instance whose ring differs must not write records.
func (v *Vault) claimRing(ctx context.Context) error {
	item := authz.Item{Kind: authz.KindRing, ID: fmt.Sprintf("%020d", v.Ring.Epoch()), Body: []byte(v.Ring.Hash())}
	_, err := authz.InsertEverywhere(ctx, v.Controls, item)
	if errors.Is(err, authz.ErrExists) {
		return ErrRingDiffers
	}
	if err != nil {
		return fmt.Errorf("vault: claim the ring's epoch: %w", err)
	}
	return nil
}
