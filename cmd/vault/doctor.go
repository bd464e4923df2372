package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
	authzdynamo "piivault/internal/authz/dynamo"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
)

const (
	// doctorTimeout bounds each look at a table or a key.
	doctorTimeout = 15 * time.Second
	// signatureSkew is where AWS begins to refuse signatures (SigV4 allows
	// five minutes), with room; budgets and expiry are off long before.
	skewWarn, skewBad = 3 * time.Second, 2 * time.Minute
	// renewBefore is when a certificate should have been renewed.
	renewBefore = 14 * 24 * time.Hour
)

func newDoctorCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor --config FILE",
		Short: "Look for what keeps an instance from serving, and say what to do",
		Long: `Ask AWS, as an instance with this configuration would: credentials, tables and
their indexes, TTL, backups and protection, a data key made and opened in every
region, the clocks, the deployment's key ring. Nothing is changed. In the end
the list price of a million operations of each type.

Exit code 1 if anything keeps an instance from serving; a warning does not.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			return a.doctor(cmd.Context(), cfg)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// findings are printed as they come and counted.
type findings struct {
	a        *app
	bad      int
	warnings int
}

func (f *findings) good(format string, args ...any) {
	f.line("ok   ", fmt.Sprintf(format, args...), "")
}

// warn and fail end with what to do.
func (f *findings) warn(what, do string) {
	f.warnings++
	f.line("warn ", what, do)
}

func (f *findings) fail(what, do string) {
	f.bad++
	f.line("BAD  ", what, do)
}

func (f *findings) line(level, what, do string) {
	fmt.Fprintf(f.a.stdout, "%s %s\n", level, what)
	if do != "" {
		fmt.Fprintf(f.a.stdout, "      → %s\n", do)
	}
}

func (a *app) doctor(ctx context.Context, cfg *config.Config) error {
	f := &findings{a: a}
	f.good("configuration")
	f.policies(cfg)
	e, err := dial(ctx, cfg)
	if err != nil {
		f.fail(err.Error(), "see the environment's AWS settings; the file of a local KMS is made by the first vault tenant create")
		return errors.New("nothing can be asked without that")
	}
	defer e.close()
	f.certificate(cfg.TLS, a.now())
	for _, client := range e.tables {
		f.tables(ctx, client, cfg)
	}
	f.keys(ctx, e)
	if len(e.tables) > 0 {
		f.deployment(ctx, e, a)
	}
	if err := printCost(a.stdout, cfg); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f.bad > 0 {
		return fmt.Errorf("%d of these keep an instance from serving", f.bad)
	}
	_, err = fmt.Fprintf(a.stdout, "\nan instance can serve; %d warnings\n", f.warnings)
	return err
}

func (f *findings) certificate(t config.TLS, now time.Time) {
	if t.Cert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	switch {
	case err != nil:
		f.fail("TLS: tls.cert and tls.key cannot be read, or do not belong together", "give a PEM certificate with its chain, and its key, both readable here")
	case now.After(pair.Leaf.NotAfter):
		f.fail("TLS: the certificate has expired", "renew it and restart")
	case now.Add(renewBefore).After(pair.Leaf.NotAfter):
		f.warn("TLS: the certificate expires on "+pair.Leaf.NotAfter.UTC().Format(time.DateOnly), "renew it and restart")
	default:
		f.good("TLS: certificate until %s", pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
}

func (f *findings) tables(ctx context.Context, client *dynamo.Client, cfg *config.Config) {
	good := 0
	for _, t := range cfg.Tables.Tables() {
		bad := f.bad
		looked, cancel := context.WithTimeout(ctx, doctorTimeout)
		found, err := client.Inspect(looked, t)
		cancel()
		at := client.Region() + ": table " + t.Name
		switch {
		case errors.Is(err, dynamo.ErrNoTable):
			f.fail(at+" is not there", "terraform apply; for development: vault tables create")
		case errors.Is(err, dynamo.ErrDenied):
			f.fail(client.Region()+": DynamoDB refuses the credentials, or there are none",
				"see that AWS's own tools work here (aws sts get-caller-identity), and that the role may use the tables and describe them")
			return // the others too
		case err != nil:
			f.fail(client.Region()+": DynamoDB does not answer", "see the endpoint, the network and the VPC endpoint's policy")
			return
		default:
			f.table(at, t, found, cfg, client.Region())
		}
		if f.bad == bad {
			good++
		}
		if t.Name == cfg.Tables.Records && err == nil {
			f.clock(client.Region(), found)
		}
	}
	if n := len(cfg.Tables.Tables()); good == n {
		f.good("%s: all %d tables", client.Region(), n)
	}
}

func (f *findings) table(at string, t dynamo.Table, found dynamo.Inspection, cfg *config.Config, region string) {
	if !found.Active {
		f.fail(at+" is not active", "wait, or see why in the AWS console")
	}
	for _, wrong := range found.Wrong {
		f.fail(at+": "+wrong, "terraform apply; a table's own key cannot be changed: it must be made anew")
	}
	if !found.TTL {
		f.warn(at+" has no TTL on "+dynamo.TTLAttribute, "enable it: what has expired stays otherwise, unreadable")
	}
	if found.Recovery == "DISABLED" {
		f.warn(at+" has no point-in-time recovery", "enable it on every replica")
	}
	if found.Recovery != "" && !found.Protected {
		f.warn(at+" is not protected from deletion", "enable deletion protection on every replica")
	}
	for _, r := range cfg.Regions {
		if t.Global && r.Name != region && !slices.Contains(found.Replicas, r.Name) {
			f.warn(at+" has no replica in "+r.Name, "make it a global table with that region; until then a loss of this region loses its records")
		}
	}
}

func (f *findings) clock(region string, found dynamo.Inspection) {
	skew := found.Skew.Abs()
	switch {
	case !found.SkewKnown:
		f.warn(region+": DynamoDB tells no time", "see that this machine's clock is synchronized")
	case skew > skewBad:
		f.fail(fmt.Sprintf("%s: this clock is %s off DynamoDB's", region, skew.Round(time.Second)), "synchronize it (chrony): AWS refuses signatures, expiry and budgets are wrong")
	case skew > skewWarn:
		f.warn(fmt.Sprintf("%s: this clock is %s off DynamoDB's", region, skew.Round(time.Second)), "synchronize it (chrony)")
	default:
		f.good("%s: clock within %s of DynamoDB's", region, skewWarn)
	}
}

// keys looks at every region's key, and at those of tenants with keys of their own.
func (f *findings) keys(ctx context.Context, e *edges) {
	for _, r := range e.ring {
		f.key(ctx, r, "")
	}
	for _, t := range e.cfg.TenantRegions() {
		for _, k := range t.Regions {
			n := slices.IndexFunc(e.ring, func(r crypto.Region) bool { return r.Name == k.Name })
			if n >= 0 && k.KeyARN != "" {
				f.key(ctx, crypto.Region{Name: k.Name, KMS: e.ring[n].KMS, KeyARN: k.KeyARN}, t.Tenant)
			}
		}
	}
}

// key makes a data key, opens it and wraps it again, as a record's is; a
// tenant's own under its id, which the key's policy may ask for.
func (f *findings) key(ctx context.Context, r crypto.Region, tenant string) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	ec := map[string]string{"pv-tenant": "doctor", "pv-type": "doctor", "pv-key": "doctor"}
	name := r.Name + ": key"
	if tenant != "" {
		ec["pv-tenant"], name = tenant, name+" of tenant "+tenant
	}
	step, err := "DescribeKey", r.KMS.Check(ctx, r.KeyARN)
	if err == nil {
		step = "GenerateDataKey"
		key, ciphertext, made := r.KMS.GenerateDataKey(ctx, r.KeyARN, ec)
		if err = made; err == nil {
			defer key.Wipe()
			step = "Decrypt"
			opened, openErr := r.KMS.Decrypt(ctx, r.KeyARN, ciphertext, ec)
			opened.Wipe()
			err = openErr
		}
		if err == nil {
			step = "Encrypt"
			_, err = r.KMS.Encrypt(ctx, r.KeyARN, key, ec)
		}
	}
	at := name + ": " + step
	switch {
	case err == nil:
		f.good("%s makes, opens and wraps data keys", name)
	case errors.Is(err, crypto.ErrDenied):
		f.fail(at+" is denied", "allow kms:"+step+" in the key's policy and the role's; conditions on the encryption context must let pv-tenant, pv-type and pv-key through")
	case errors.Is(err, crypto.ErrDisabled):
		f.fail(at+": the key is disabled, pending deletion, not symmetric, or not there", "enable it, or cancel its deletion, in "+r.Name)
	case errors.Is(err, crypto.ErrThrottled):
		f.warn(at+" is throttled", "raise the account's KMS request quota in "+r.Name)
	default:
		f.fail(at+": KMS does not answer", "see the endpoint, the network, the credentials and the VPC endpoint's policy")
	}
}

// deployment compares the ring with what the deployment agreed on, in the local table.
func (f *findings) deployment(ctx context.Context, e *edges, a *app) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	ring, err := newRing(e, surroundings{now: a.now, random: a.random, logger: zerolog.Nop()}, nil)
	if err != nil {
		f.fail("the key ring: "+strings.TrimPrefix(err.Error(), "crypto: ring: "), "mend regions and ring in the configuration")
		return
	}
	control := authzdynamo.New(e.localFirst()[0], e.cfg.Tables.Control)
	item, err := control.Get(ctx, authz.KindRing, fmt.Sprintf("%020d", ring.Epoch()))
	switch {
	case errors.Is(err, authz.ErrNotFound):
		f.newRing(ctx, e, ring, control)
	case err != nil:
		return // the table's finding says why
	case string(item.Body) != ring.Hash():
		f.fail("the key ring is not the deployment's at this epoch: no instance will start with it",
			"configure regions, keys and mode in the same order as the others; a ring that is meant to change needs the next ring.epoch")
	default:
		f.good("the key ring is the deployment's at epoch %d", ring.Epoch())
	}
	tenants, err := authz.ListTenants(ctx, control)
	if err != nil {
		return
	}
	f.tenants(ctx, control, ring, tenants)
	if !slices.ContainsFunc(tenants, func(t authz.Tenant) bool { return t.Active }) {
		f.warn("there is no tenant", "vault tenant create --config … --alias …, then vault key create --config … --tenant … --roles admin")
	}
}

// tenants looks for tenants whose secret none of their configured keys opens,
// and for configured keys of tenants that there are not.
func (f *findings) tenants(ctx context.Context, control authz.Control, ring *crypto.Ring, tenants []authz.Tenant) {
	for _, id := range ring.Tenants() {
		if !slices.ContainsFunc(tenants, func(t authz.Tenant) bool { return t.ID == id }) {
			f.warn("tenant_keys has keys of "+id+", which is no tenant here", "see vault tenant list: it wants the id")
		}
	}
	for _, t := range tenants {
		item, err := control.Get(ctx, authz.KindTenantSecret, t.ID)
		if err != nil {
			continue // it is being made
		}
		if m, err := crypto.Parse(item.Body); err == nil && !ring.Opens(m) {
			f.fail("no configured key opens the secret of tenant "+t.ID, "name the keys that it had in former, in tenant_keys or regions; until then it is refused everything")
		}
	}
}
