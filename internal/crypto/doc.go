// Package crypto seals one value into one AWS Encryption SDK message and opens
// it again: authenticated encryption with key commitment under a data key that
// the KMS of every reachable region has wrapped (envelope encryption), around
// an inner structure that binds the value to its record and, for bound types,
// to the token itself (design §4; bytes in docs/design/format.md §1-3).
//
// Ring knows the regions and routes around the ones that do not answer; Sealer
// turns values into messages and back; TenantKeys derives everything that is
// an HMAC under a tenant's secret.
package crypto
