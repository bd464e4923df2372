package main

import (
	"fmt"
	"io"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/crypto"
	"piivault/internal/pii"
)

// List prices in USD a million, us-east-1, on demand, 2025: aws.amazon.com/kms/pricing,
// aws.amazon.com/dynamodb/pricing/on-demand. Other regions and years differ.
const (
	priceKMS   = 3.00
	priceWrite = 0.625 // a write unit, in a table and in each replica of it
	priceRead  = 0.125 // a strongly consistent read unit
	priceKey   = 1.00  // a month and key, not a million
)

// Bytes of a record of a short value, estimated from docs/design/format.md §1
// and §5: what every record has, and what each key copy adds.
const (
	bytesRecord = 700
	bytesCopy   = 290
	writeUnit   = 1024
	// auditIndexRows are the index rows of one entry, in the region's own table.
	auditIndexRows = 3
)

// cost is what one operation alone in its request is billed, in units.
type cost struct{ kms, writes, reads float64 }

func (c cost) perMillion() float64 { return c.kms*priceKMS + c.writes*priceWrite + c.reads*priceRead }

func tokenizeCost(t *pii.Type, cfg *config.Config) cost {
	replicas, copies := float64(len(cfg.Regions)), len(cfg.Regions)
	if cfg.Ring.Mode == crypto.MultiRegion {
		copies = 1
	}
	c := cost{kms: float64(copies)}
	if t.Token != pii.Random { // a random token, drawn just now, is not looked for (design §5)
		c.reads = 2 // record and tombstone
	}
	if t.DataKey.Reuse {
		c.kms /= float64(t.DataKey.MaxMessages)
	}
	units := float64((bytesRecord + copies*bytesCopy + writeUnit - 1) / writeUnit)
	c.writes = replicas*units + auditCost(replicas)
	if t.Token == pii.Deterministic {
		c.writes += replicas // the link to its subject
	}
	return c
}

// detokenizeCost: a record and its tombstone are read, one key copy is opened.
func detokenizeCost(cfg *config.Config) cost {
	return cost{kms: 1, reads: 2, writes: auditCost(float64(len(cfg.Regions)))}
}

func auditCost(replicas float64) float64 { return replicas + auditIndexRows }

// printCost: with the embedded store only KMS is billed.
func printCost(w io.Writer, cfg *config.Config) error {
	catalog, err := pii.NewCatalog(cfg.Types)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nUSD a million operations at us-east-1's list price of 2025, each alone in its request (batches share audit\n"+
		"writes), short values, %d regions:\n", len(cfg.Regions))
	t := new(table)
	t.add("TYPE", "TOKENIZE", "OF IT KMS", "DETOKENIZE", "OF IT KMS")
	for _, typ := range catalog.All() {
		in, out := tokenizeCost(typ, cfg), detokenizeCost(cfg)
		if cfg.Store == config.Embedded {
			in, out = cost{kms: in.kms}, cost{kms: out.kms}
		}
		t.add(typ.Name, dollars(in.perMillion()), dollars(in.kms*priceKMS), dollars(out.perMillion()), dollars(out.kms*priceKMS))
	}
	if err := t.print(w); err != nil {
		return err
	}
	keys := 0
	for _, r := range cfg.Regions {
		if r.KMS.KeyARN != "" {
			keys++
		}
	}
	for _, t := range cfg.TenantKeys {
		if t.Keys[0].KeyARN != "" {
			keys += len(t.Keys)
		}
	}
	_, err = fmt.Fprintf(w, "and %d KMS keys, %s a month\n", keys, dollars(float64(keys)*priceKey))
	return err
}

func dollars(amount float64) string { return fmt.Sprintf("%.2f", amount) }
