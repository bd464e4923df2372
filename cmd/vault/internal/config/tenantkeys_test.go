package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/crypto"
)

const (
	tenantA = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	tenantB = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
	ownEU   = "arn:aws:kms:eu-west-1:111122223333:key/44444444-4444-4444-4444-444444444444"
	ownUS   = "arn:aws:kms:us-east-1:111122223333:key/55555555-5555-5555-5555-555555555555"
)

// goodTenants begins at line 12 of the configuration.
const goodTenants = `tenant_keys:
  - tenant: ` + tenantA + `
    keys:
      - {region: us-east-1, key_arn: "` + ownUS + `"}
      - {region: eu-west-1, key_arn: "` + ownEU + `", former: ["` + arnEU + `"]}
  - tenant: ` + tenantB + `
    keys:
      - {region: eu-west-1, former: ["arn:aws:kms:eu-west-1:111122223333:key/6"]}
      - {region: us-east-1}
`

func TestTenantKeys(t *testing.T) {
	c, unknown, err := load(good+goodTenants, "VAULT_TENANT_KEYS_1_KEYS_1_FORMER_0=arn:aws:kms:us-east-1:111122223333:key/7")
	if err != nil || unknown != nil {
		t.Fatal(err, unknown)
	}
	want := []crypto.TenantRegions{
		{Tenant: tenantA, Regions: []crypto.TenantRegion{{Name: "us-east-1", KeyARN: ownUS}, {Name: "eu-west-1", KeyARN: ownEU, Former: []string{arnEU}}}},
		{Tenant: tenantB, Regions: []crypto.TenantRegion{
			{Name: "eu-west-1", Former: []string{"arn:aws:kms:eu-west-1:111122223333:key/6"}},
			{Name: "us-east-1", Former: []string{"arn:aws:kms:us-east-1:111122223333:key/7"}},
		}},
	}
	if diff := cmp.Diff(want, c.TenantRegions()); diff != "" {
		t.Error(diff)
	}
	if c, _, err = load(good); err != nil || len(c.TenantRegions()) != 0 {
		t.Errorf("none: %v, %v", c.TenantKeys, err)
	}
}

// Each mistake is told with its place, and without a value.
func TestTenantKeysMistakes(t *testing.T) {
	const us = `      - {region: us-east-1, key_arn: "` + ownUS + `"}`
	for name, m := range map[string][3]string{
		"no tenant":         {"  - tenant: " + tenantA + "\n    keys:", "  - keys:", "line 13, column 5: tenant is missing"},
		"an alias":          {tenantA, "acme", "line 13, column 13: this must be a tenant's id (not its alias)"},
		"twice":             {tenantB, tenantA, "line 17, column 13: this tenant has keys already"},
		"not a list":        {goodTenants, "tenant_keys: {}\n", "line 12, column 14: this must be a list"},
		"unknown":           {"tenant: " + tenantA, "tenant: " + tenantA + "\n    name: x", "line 14, column 5: unknown key name: there are tenant, keys"},
		"unknown of a key":  {"key_arn", "arn", "line 15, column 29: unknown key arn: there are region, key_arn, former"},
		"no region":         {"{region: us-east-1, key_arn", "{key_arn", "line 15, column 10: region is missing"},
		"another region":    {"{region: us-east-1, key_arn", "{region: us-east-2, key_arn", "line 15, column 18: this must be the name of one of regions"},
		"a region twice":    {us, us + "\n" + us, "line 16, column 18: this region is named twice"},
		"a region missing":  {us + "\n", "", "line 15, column 7: every one of regions must be here: us-east-1 is missing"},
		"no keys":           {"      - {region: eu-west-1, former: [\"arn:aws:kms:eu-west-1:111122223333:key/6\"]}\n      - {region: us-east-1}\n", "", "every one of regions must be here: eu-west-1 is missing"},
		"half":              {`, key_arn: "` + ownEU + `"`, "", "line 16, column 10: a tenant has a key_arn in every region, or in none"},
		"neither":           {`, former: ["arn:aws:kms:eu-west-1:111122223333:key/6"]`, "", "line 19, column 7: there is neither a key_arn nor a former one"},
		"a key elsewhere":   {ownUS, strings.Replace(ownUS, "us-east-1", "us-west-2", 1), "line 15, column 38: this key is of another region"},
		"an alias of a key": {ownUS, "arn:aws:kms:us-east-1:111122223333:alias/x", "line 15, column 38: this must be the ARN of a KMS key"},
		"former elsewhere":  {`["arn:aws:kms:eu-west-1:111122223333:key/6`, `["arn:aws:kms:eu-west-2:111122223333:key/6`, "line 19, column 38: this key is of another region"},
		"the ring's key":    {ownUS, arnUS, `line 13, column 5: region "us-east-1": its key is another's too`},
		"another's former":  {"eu-west-1:111122223333:key/6", "eu-west-1:111122223333:key/44444444-4444-4444-4444-444444444444", `line 17, column 5: region "eu-west-1": former key: its key is another's too`},
	} {
		if !strings.Contains(goodTenants, m[0]) {
			t.Fatalf("%s: there is no %q", name, m[0])
		}
		_, _, err := load(good + strings.Replace(goodTenants, m[0], m[1], 1))
		if _, ok := errors.AsType[*config.MistakeError](err); !ok || !strings.Contains(err.Error(), m[2]) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "111122223333") || strings.Contains(err.Error(), tenantA) {
			t.Errorf("%s: the error repeats a value: %v", name, err)
		}
	}
}

// A KMS in a file has one key; a multi-Region ring wants replicas of each tenant.
func TestTenantKeysOfOtherRings(t *testing.T) {
	embedded := `env: prod
region: eu-west-1
store: embedded
data: d
allow_local_kms: true
regions: [{name: eu-west-1, kms: {local: k.json}}]
tenant_keys: [{tenant: ` + tenantA + `, keys: [{region: eu-west-1, key_arn: "` + ownEU + `"}]}]
`
	if _, _, err := load(embedded); err == nil || !strings.Contains(err.Error(), "line 7, column 68: this region's local KMS has one key") {
		t.Errorf("local: %v", err)
	}
	mrk := func(arn, id string) string { return arn[:strings.LastIndexByte(arn, '/')+1] + "mrk-" + id }
	related := strings.NewReplacer("min_copies: 2", "mode: multi_region", arnEU, mrk(arnEU, "1"), arnUS, mrk(arnUS, "1"), ownEU, mrk(ownEU, "2"), ownUS, mrk(ownUS, "2"))
	if _, _, err := load(related.Replace(good + goodTenants)); err != nil {
		t.Error(err)
	}
	if _, _, err := load(strings.Replace(related.Replace(good+goodTenants), mrk(ownUS, "2"), mrk(ownUS, "3"), 1)); err == nil ||
		!strings.Contains(err.Error(), "line 13, column 5: us-east-1: not a replica of the multi-Region key") {
		t.Errorf("no replica: %v", err)
	}
}
