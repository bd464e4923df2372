package crypto

import (
	"errors"
	"strings"
)

// providerID is the key provider of every copy (framework/aws-kms/aws-kms-keyring.md).
const providerID = "aws-kms"

// errARN refuses a key name that is not a KMS key ARN.
var errARN = errors.New("crypto: not the ARN of a KMS key")

// keyARN is a parsed key ARN (framework/aws-kms/aws-kms-key-arn.md).
type keyARN struct{ text, partition, region, account, id string }

// parseARN accepts ARNs of keys only: an alias would be a provider info that no SDK matches.
func parseARN(s string) (keyARN, error) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "kms" {
		return keyARN{}, errARN
	}
	id, ok := strings.CutPrefix(parts[5], "key/")
	a := keyARN{text: s, partition: parts[1], region: parts[3], account: parts[4], id: id}
	if !ok || id == "" || a.partition == "" || a.region == "" || a.account == "" || len(s) > 2048 {
		return keyARN{}, errARN
	}
	return a, nil
}

// multiRegion reports a multi-Region key (aws-kms-key-arn.md §2.8).
func (a keyARN) multiRegion() bool { return strings.HasPrefix(a.id, "mrk-") }

// opens reports that the key opens a copy with this provider info: the same
// ARN, or a replica of the same multi-Region key (aws-kms-mrk-match-for-decrypt.md).
func (a keyARN) opens(info []byte) bool {
	if string(info) == a.text {
		return true
	}
	if !a.multiRegion() {
		return false
	}
	b, err := parseARN(string(info))
	return err == nil && a.partition == b.partition && a.account == b.account && a.id == b.id
}

// identity is alike for keys of which one opens what the other made.
func (a keyARN) identity() string {
	if !a.multiRegion() {
		return a.text
	}
	return a.partition + ":" + a.account + ":" + a.id
}
