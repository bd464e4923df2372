package vault

import "slices"

// Duty is a part of the vault's work that an instance may be started without.
type Duty string

// The duties. Every instance signs callers in, learns of stops and
// revocations, reads erase jobs, beats, probes its KMS, and unwraps tenant
// secrets: without them no record can be named.
const (
	// CanTokenize: tokenize and inspect, and data keys made ahead.
	CanTokenize Duty = "tokenize"
	// CanDetokenize: the only duty whose requests open records.
	CanDetokenize Duty = "detokenize"
	// CanAudit: queries of the audit log.
	CanAudit Duty = "audit"
	// CanRepair: erasures, repair, the sweeper, coverage, API keys and the kill
	// switch. Repair opens data keys, and no bound value.
	CanRepair Duty = "repair"
)

// Duties returns all of them.
func Duties() []Duty { return []Duty{CanTokenize, CanDetokenize, CanAudit, CanRepair} }

// can reports whether the instance has a duty.
func (v *Vault) can(d Duty) bool { return slices.Contains(v.Can, d) }
