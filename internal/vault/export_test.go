package vault

import "context"

// The background steps, run once by tests that do not Run the vault.

func (v *Vault) ProbePass(ctx context.Context)     { v.Ring.Probe(ctx) }
func (v *Vault) RepairPass(ctx context.Context)    { v.repair.pass(ctx) }
func (v *Vault) RepairTenants(ctx context.Context) { _ = v.repair.tenantSecrets(ctx) }
func (v *Vault) ErasePass(ctx context.Context)     { v.jobs.step(ctx) }
func (v *Vault) SweepPass(ctx context.Context)     { v.sweepOnce(ctx) }
func (v *Vault) BeatPass(ctx context.Context)      { v.beatOnce(ctx) }
func (v *Vault) StopsPass(ctx context.Context)     { _ = v.stops.Refresh(ctx) }

// EraseJobs counts the jobs that are kept.
func (v *Vault) EraseJobs() (open, complete int) {
	v.jobs.mu.Lock()
	defer v.jobs.mu.Unlock()
	return len(v.jobs.open), len(v.jobs.complete)
}
