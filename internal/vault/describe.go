package vault

import (
	"context"

	"piivault/internal/crypto"
)

// degradedCount bounds how far degraded records are counted.
const degradedCount = 10_000

// Types lists the configured types. Every credential may ask.
func (v *Vault) Types(context.Context, Call) ([]TypeInfo, error) {
	types := v.Catalog.All()
	out := make([]TypeInfo, len(types))
	for i, t := range types {
		out[i] = TypeInfo{Name: t.Name, TokenFormat: string(t.Token), Bound: t.Bound, MaskExample: t.MaskExample()}
	}
	return out, nil
}

// Regions tells the ring's state as this instance sees it, by the keys of the
// caller's tenant (of none: by those that most tenants share), and how many
// records of this region's table miss key copies. Every credential may ask.
func (v *Vault) Regions(ctx context.Context, c Call) (RegionsResult, error) {
	missing, total, err := v.local.CountDegraded(ctx, degradedCount)
	if err != nil {
		return RegionsResult{}, unavailable("unavailable", err)
	}
	result := RegionsResult{Local: v.region, DegradedRecords: total}
	for _, h := range v.Ring.For(c.Principal.Tenant).Health() {
		result.Regions = append(result.Regions, RegionInfo{Name: h.Name, KMS: kmsState(h.State), MissingCopies: missing[h.Name]})
	}
	return result, nil
}

func kmsState(s crypto.State) string {
	switch s {
	case crypto.Up:
		return "up"
	case crypto.Denied:
		return "denied"
	default:
		return "down"
	}
}
