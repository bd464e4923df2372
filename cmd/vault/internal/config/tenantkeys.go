package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"piivault/internal/crypto"
)

// TenantKeys are one tenant's keys, in every region of the ring.
type TenantKeys struct {
	Tenant string // its id
	Keys   []TenantKey
}

// TenantKey is a tenant's key in one region; without KeyARN, in all regions
// alike, the tenant uses the regions' keys and has Former alone.
type TenantKey struct {
	Region string
	KeyARN string
	Former []string // ARNs whose copies of its data keys are still opened
}

func (l *loader) tenantKeys(path string, v *value) error {
	return l.list(path, v, field{nested: true, set: func(path string, v *value) error {
		var t TenantKeys
		err := l.mapping(path, v, []field{
			{"tenant", false, into(&t.Tenant, textOf)},
			{"keys", true, func(path string, v *value) error {
				return l.list(path, v, field{nested: true, set: func(path string, v *value) error {
					var k TenantKey
					err := l.mapping(path, v, []field{
						{"region", false, into(&k.Region, textOf)},
						{"key_arn", false, into(&k.KeyARN, textOf)},
						l.former(&k.Former),
					})
					t.Keys = append(t.Keys, k)
					return err
				}})
			}},
		})
		l.c.TenantKeys = append(l.c.TenantKeys, t)
		return err
	}})
}

// former is the list of a key's predecessors.
func (l *loader) former(arns *[]string) field {
	return field{"former", true, func(path string, v *value) error {
		return l.list(path, v, field{set: func(_ string, v *value) error {
			var arn string
			err := into(&arn, textOf)("", v)
			*arns = append(*arns, arn)
			return err
		}})
	}}
}

// tenantIDs is the alphabet of ids as vault tenant create prints them.
const tenantIDs = "abcdefghijklmnopqrstuvwxyz234567"

func (l *loader) checkTenantKeys() error {
	seen := map[string]bool{}
	for i, t := range l.c.TenantKeys {
		path := "tenant_keys." + strconv.Itoa(i)
		switch {
		case t.Tenant == "":
			return l.mistake(path, "tenant is missing")
		case len(t.Tenant) != 26 || strings.Trim(t.Tenant, tenantIDs) != "":
			return l.mistake(path+".tenant", "this must be a tenant's id (not its alias): vault tenant list shows it")
		case seen[t.Tenant]:
			return l.mistake(path+".tenant", "this tenant has keys already")
		}
		seen[t.Tenant] = true
		if err := l.checkTenant(path+".keys", t); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) checkTenant(path string, t TenantKeys) error {
	var named []string
	former := 0
	for i, k := range t.Keys {
		at := path + "." + strconv.Itoa(i)
		n := slices.IndexFunc(l.c.Regions, func(r Region) bool { return r.Name == k.Region })
		switch {
		case k.Region == "":
			return l.mistake(at, "region is missing")
		case n < 0:
			return l.mistake(at+".region", "this must be the name of one of regions")
		case slices.Contains(named, k.Region):
			return l.mistake(at+".region", "this region is named twice")
		case l.c.Regions[n].KMS.Local != "":
			return l.mistake(at+".region", "this region's local KMS has one key, for all tenants")
		case (k.KeyARN == "") != (t.Keys[0].KeyARN == ""):
			return l.mistake(at, "a tenant has a key_arn in every region, or in none")
		}
		if err := l.keyARNs(at, k.Region, k.KeyARN, k.Former); err != nil {
			return err
		}
		named, former = append(named, k.Region), former+len(k.Former)
	}
	for _, r := range l.c.Regions {
		if !slices.Contains(named, r.Name) {
			return l.mistake(path, fmt.Sprintf("every one of regions must be here: %s is missing", r.Name))
		}
	}
	if t.Keys[0].KeyARN == "" && former == 0 {
		return l.mistake(path, "there is neither a key_arn nor a former one")
	}
	return nil
}

// keyARNs checks the form of a key's ARN, if there is one, and of its predecessors'.
func (l *loader) keyARNs(path, region, keyARN string, former []string) error {
	for i, arn := range append([]string{keyARN}, former...) {
		at := path + ".key_arn"
		if i > 0 {
			at = path + ".former." + strconv.Itoa(i-1)
		}
		parts := strings.Split(arn, ":")
		switch {
		case i == 0 && arn == "":
		case len(parts) != 6 || parts[0] != "arn" || parts[2] != "kms" || !strings.HasPrefix(parts[5], "key/"):
			return l.mistake(at, "this must be the ARN of a KMS key (not of an alias): arn:aws:kms:REGION:ACCOUNT:key/ID")
		case parts[3] != region:
			return l.mistake(at, "this key is of another region than the one it is given for")
		}
	}
	return nil
}

// TenantRegions are the tenants' keys as the ring takes them.
func (c *Config) TenantRegions() []crypto.TenantRegions {
	all := make([]crypto.TenantRegions, len(c.TenantKeys))
	for i, t := range c.TenantKeys {
		all[i].Tenant = t.Tenant
		for _, k := range t.Keys {
			all[i].Regions = append(all[i].Regions, crypto.TenantRegion{Name: k.Region, KeyARN: k.KeyARN, Former: k.Former})
		}
	}
	return all
}
