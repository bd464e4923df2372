// Package interop shows that nobody is locked in (G10): what `vault serve` has
// put into DynamoDB is opened by AWS's own Encryption SDKs, with a KMS keyring
// in each region, and by docs/recover.md, without any code of ours; what those
// SDKs wrote is opened by ours, or refused where the format is narrower.
package interop
