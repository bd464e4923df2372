package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"piivault/internal/audit"
	"piivault/internal/crypto"
	"piivault/internal/pii"
)

// check refuses combinations that cannot work and fills in what depends on others.
func (l *loader) check() error {
	for _, step := range []func() error{l.required, l.regions, l.checkTenantKeys, l.store, l.listeners, l.signsIn, l.ring, l.catalog} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) required() error {
	c := l.c
	for _, r := range []struct{ path, value string }{{"env", c.Env}, {"region", c.Region}} {
		if r.value == "" {
			return l.mistake("", r.path+" is missing")
		}
	}
	if len(c.Regions) == 0 {
		return l.mistake("regions", "regions is missing: at least one, this instance's")
	}
	if len(c.Regions) > crypto.MaxCopies {
		return l.mistake("regions", fmt.Sprintf("there can be %d regions at most", crypto.MaxCopies))
	}
	if c.Instance != "" && (audit.LogName{Region: "r", Instance: c.Instance, Epoch: 1}).Validate() != nil {
		return l.mistake("instance", "this must be 1 to 63 of a-z A-Z 0-9 . _ -")
	}
	return nil
}

func (l *loader) regions() error {
	var names []string
	for i, r := range l.c.Regions {
		path := "regions." + strconv.Itoa(i)
		switch {
		case r.Name == "":
			return l.mistake(path, "name is missing")
		case slices.Contains(names, r.Name):
			return l.mistake(path+".name", "two regions have this name")
		case pii.CheckPlace("e", r.Name) != nil:
			return l.mistake(path+".name", "this is no name for a region: eu-west-1 is one")
		}
		if err := l.kms(path+".kms", r); err != nil {
			return err
		}
		names = append(names, r.Name)
	}
	if !slices.Contains(names, l.c.Region) {
		return l.mistake("region", "this must be the name of one of regions")
	}
	if pii.CheckPlace(l.c.Env, l.c.Region) != nil {
		return l.mistake("env", "this must be 1 to 8 of a-z 0-9")
	}
	return nil
}

func (l *loader) kms(path string, r Region) error {
	k := r.KMS
	switch {
	case k.Local != "" && !l.allowLocalKMS:
		return l.mistake(path+".local", "a local KMS protects nothing from whoever reads its file: for trying out only, with allow_local_kms: true")
	case k.Local != "" && (k.KeyARN != "" || k.Endpoint != "" || k.FIPS || len(k.Former) > 0):
		return l.mistake(path+".local", "a local KMS has no key_arn, former, endpoint or fips")
	case k.Local != "":
		return nil
	case k.KeyARN == "":
		return l.mistake(path, "kms.key_arn is missing")
	case k.FIPS && k.Endpoint != "":
		return l.mistake(path+".fips", "an endpoint of one's own cannot be AWS's FIPS endpoint")
	}
	return l.keyARNs(path, r.Name, k.KeyARN, k.Former)
}

func (l *loader) store() error {
	c := l.c
	switch {
	case c.Store == Embedded && c.Data == "":
		return l.mistake("store", "the embedded store needs data, a directory")
	case c.Store == Embedded && len(c.Regions) > 1:
		return l.mistake("regions", "the embedded store has one region: nothing replicates it")
	case c.Store == DynamoDB && c.Data != "":
		return l.mistake("data", "data is the embedded store's directory; this store is dynamodb")
	case c.TwoRegions && len(c.Regions) < 2:
		return l.mistake("durability", "two_regions needs a second region: there is one alone")
	}
	seen := map[string]bool{}
	for _, t := range []struct{ key, name string }{
		{"records", c.Tables.Records},
		{"audit", c.Tables.Audit},
		{"audit_index", c.Tables.AuditIndex},
		{"control", c.Tables.Control},
		{"counters", c.Tables.Counters},
	} {
		if len(t.name) < 3 {
			return l.mistake("tables."+t.key, "a table's name has at least three characters")
		}
		if seen[t.name] {
			return l.mistake("tables."+t.key, "two tables have this name")
		}
		seen[t.name] = true
	}
	return nil
}

func (l *loader) listeners() error {
	c := l.c
	switch {
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return l.mistake("tls", "tls needs both cert and key")
	case c.TLS.Cert == "" && !IsLoopback(c.Listen) && !l.allowPlaintext:
		return l.mistake("listen", "other machines can reach this address: give tls.cert and tls.key, or allow_plaintext: true behind a proxy that ends TLS")
	case c.Pprof != "" && !IsLoopback(c.Pprof):
		return l.mistake("pprof.listen", "pprof shows memory: it is served on a loopback address only")
	}
	return nil
}

// IsLoopback reports a host:port address that no other machine reaches.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// uncalled is a KMS for a ring that only its configuration matters of.
type uncalled struct{ crypto.KMS }

// ring lets the ring judge its own configuration.
func (l *loader) ring() error {
	c := crypto.RingConfig{Local: l.c.Region, Mode: l.c.Ring.Mode, MinCopies: l.c.Ring.MinCopies, Epoch: l.c.Ring.Epoch}
	if c.MinCopies > len(l.c.Regions) {
		return l.mistake("ring.min_copies", "this is more than there are regions")
	}
	for _, r := range l.c.Regions {
		if r.KMS.Local != "" {
			return nil // its ARN is in its file
		}
		c.Regions = append(c.Regions, crypto.Region{Name: r.Name, KMS: uncalled{}, KeyARN: r.KMS.KeyARN, Former: r.KMS.Former})
	}
	if _, err := crypto.NewRing(c); err != nil {
		return l.mistake("regions", strings.TrimPrefix(err.Error(), "crypto: "))
	}
	tenants := l.c.TenantRegions()
	c.Tenants = tenants
	if _, err := crypto.NewRing(c); err == nil {
		return nil
	}
	for i := range tenants { // whose keys do not go with those before
		c.Tenants = tenants[:i+1]
		if _, err := crypto.NewRing(c); err != nil {
			_, what, _ := strings.Cut(strings.TrimPrefix(err.Error(), "crypto: ring: "), ": ")
			return l.mistake("tenant_keys."+strconv.Itoa(i), what)
		}
	}
	return nil
}

func (l *loader) catalog() error {
	if l.c.Types == nil {
		l.c.Types = pii.BuiltIn()
	}
	if _, err := pii.NewCatalog(l.c.Types); err != nil {
		return l.mistake("types", withoutPrefix(err))
	}
	return nil
}

func withoutPrefix(err error) string {
	return strings.TrimPrefix(err.Error(), pii.ErrConfig.Error()+": ")
}

// typesMistake takes the place out of pii's error.
func typesMistake(v *value, err error) error {
	m := &MistakeError{Source: v.source, What: withoutPrefix(err)}
	if !errors.Is(err, pii.ErrConfig) {
		return m
	}
	place, what, ok := strings.Cut(m.What, ": ")
	if n, _ := fmt.Sscanf(place, "line %d, column %d", &m.Line, &m.Column); ok && n == 2 {
		m.What = what
	}
	return m
}
