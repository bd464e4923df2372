// Package simulation runs regions of the real vault in one goroutine's hands:
// 2 to 4 regions of several instances each, clients, replication, KMS and
// table faults, partitions, crashes at every write and wrong clocks, all
// decided by one seeded scheduler. The domain, key ring, repair, erasure,
// sweeper, audit log and DynamoDB adapters are the production code; below them
// is internal/sim/simdynamo, and time is testing/synctest's.
//
// Everything that leaves the code under test, and every wake-up of a request
// by its audit block, waits for the scheduler as a call with a name of its
// own. When all goroutines are blocked it draws what happens next; what it
// drew is the trace, whose hash a second run of the seed must repeat. After
// every step it checks the guarantees of design §1 against an oracle of what
// was acknowledged (invariants.go), and at the end it heals everything and
// asks for convergence.
package simulation
