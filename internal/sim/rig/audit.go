package rig

import (
	"errors"
	"testing"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
)

// Entries verifies a region's audit logs, as its table has them, and gives
// every entry that counts, by log and index. Of the other region's logs the
// table may have a part until all is settled. Instances write on meanwhile, so
// that a block may be there before the one before it: such a log is read again.
func (r *Rig) Entries(tb testing.TB, region string) map[string]map[uint64]audit.Entry {
	tb.Helper()
	source := auditdynamo.Stored{Client: r.account.Client(tb, region), Table: r.Names.Audit}
	var logs []audit.Verified
	var err error
	Eventually(tb, "no block behind a hole", func() bool {
		logs, err = audit.Verify(tb.Context(), source)
		return !errors.Is(err, audit.ErrUnfinished)
	})
	if err != nil {
		tb.Fatalf("the audit log does not verify: %v", err)
	}
	entries := map[string]map[uint64]audit.Entry{}
	for _, log := range logs {
		name, err := audit.ParseLogName(log.Log)
		if err != nil {
			tb.Fatal(err)
		}
		of := map[uint64]audit.Entry{}
		err = source.Blocks(tb.Context(), name, func(number uint64, block []byte) error {
			return audit.EachEntry(name, number, block, func(index uint64, e audit.Entry) {
				if index < log.Size { // what is void is not there
					of[index] = e
				}
			})
		})
		if err != nil {
			tb.Fatal(err)
		}
		entries[log.Log] = of
	}
	return entries
}
