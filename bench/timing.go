package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/httpapi"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

const (
	timingTokens = 32  // of each kind, in turn
	timingWarmUp = 300 // rounds before the first that counts
	unknownKind  = "unknown"
	// deniedType is what nobody may see here.
	deniedType = "address"
)

// timing asks, over one connection and in turns of random order, for tokens of
// every kind that is answered not_found, and says how well the times of the
// answers tell them from unknown ones. Unknown tokens are there twice: what
// separates those two is noise.
func timing(ctx context.Context, dir string, n int, out io.Writer) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	dir, err = os.MkdirTemp(dir, "timing-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, err := openTimed(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	kinds, err := w.kinds(ctx)
	if err != nil {
		return err
	}
	took, err := w.measure(ctx, kinds, n)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d requests of each kind; times in µs, against unknown tokens\n\n%-24s %8s %8s %8s %8s %8s %8s %8s  %s\n",
		n, "kind", "p50", "p99", "shift", "chance", "larger", "apart", "t", "requests to tell, 95 %")
	random := mathrand.New(mathrand.NewPCG(1, 0))
	for i, k := range kinds {
		c := contrasted(took[i], took[0], random)
		if i == 0 {
			continue
		}
		fmt.Fprintf(out, "%-24s %8.1f %8.1f %+8.1f %8.3f %8.3f %8.3f %+8.1f  %.0f\n", k.name, micros(middle(took[i])), micros(quantile(took[i], 0.99)),
			micros(c.shift), c.chance, c.larger, c.apart, c.t, needed(c.larger))
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// kind is tokens that are answered alike.
type kind struct {
	name   string
	bodies [][]byte
}

// timed is a region behind a listener of its own.
type timed struct {
	*sim.World
	call   vault.Call
	key    string
	addr   string
	server *http.Server
	served chan struct{}
}

func openTimed(ctx context.Context, dir string) (_ *timed, err error) {
	policies, err := denying()
	if err != nil {
		return nil, err
	}
	w := &timed{served: make(chan struct{})}
	if w.World, err = sim.Open(ctx, sim.Config{
		Dir: dir, Regions: []string{"eu-west-1", "us-east-1"}, Solo: true, Logger: zerolog.Nop(), ErasureQuiet: time.Millisecond,
		Wrap: func(_ string, c *vault.Config) { c.Policies = authz.FixedPolicies(policies) },
	}); err != nil {
		return nil, err
	}
	if err := w.serve(ctx); err != nil {
		return nil, errors.Join(err, w.World.Close())
	}
	return w, nil
}

// denying are the default policies, and one that denies a type to all.
func denying() (*authz.Policies, error) {
	files, err := authz.DefaultPolicyFiles()
	if err != nil {
		return nil, err
	}
	set := map[string][]byte{"denied.cedar": []byte(`@id("denied")
forbid (principal, action == Action::"detokenize", resource) when { resource.type == "` + deniedType + `" };
`)}
	for name, text := range files {
		if strings.HasSuffix(name, ".cedar") {
			set[name] = text
		}
	}
	return authz.ParsePolicies(set)
}

func (w *timed) serve(ctx context.Context) error {
	credential, err := w.Bootstrap(ctx)
	if err != nil {
		return err
	}
	v := w.Regions[0].Vault
	principal, err := v.Authenticate(ctx, vault.Credentials{Bearer: credential})
	if err != nil {
		return err
	}
	w.call, w.key = vault.Call{Principal: principal, RequestID: "bench"}, credential.Reveal()
	handler, err := httpapi.New(httpapi.Config{Vault: v, Logger: zerolog.Nop(), Now: time.Now, Random: rand.Reader})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.addr, w.server = listener.Addr().String(), &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { defer close(w.served); _ = w.server.Serve(listener) }() // it ends when it is closed
	w.Run(ctx)
	return nil
}

// Close ends the listener and the region.
func (w *timed) Close() error {
	err := w.server.Close()
	<-w.served
	return errors.Join(err, w.World.Close())
}

// kinds makes the tokens; what unknown ones are compared with comes behind them.
func (w *timed) kinds(ctx context.Context) ([]kind, error) {
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second).Add(time.Second)
	other := w.call
	var err error
	if other.Principal.Tenant, err = w.Regions[0].Vault.CreateTenant(ctx, "second"); err != nil {
		return nil, err
	}
	var kinds []kind
	add := func(name string, tokens []secret.Text, err error) error {
		k := kind{name: name}
		for _, t := range tokens {
			k.bodies = append(k.bodies, fmt.Appendf(nil, `{"purpose":"p","items":[{"token":%q}]}`, t.Reveal()))
		}
		kinds = append(kinds, k)
		return err
	}
	denied, err1 := w.tokens(ctx, w.call, vault.TokenizeItem{})
	subject, err2 := w.tokens(ctx, w.call, vault.TokenizeItem{Subject: "customer-1"})
	expired, err3 := w.tokens(ctx, w.call, vault.TokenizeItem{Expires: soon.UTC().Format(time.RFC3339)})
	strange, err4 := w.tokens(ctx, other, vault.TokenizeItem{})
	erased, err5 := w.tokens(ctx, w.call, vault.TokenizeItem{})
	if err5 == nil {
		_, err5 = w.Regions[0].Vault.Erase(ctx, w.call, vault.EraseRequest{Tokens: erased})
	}
	err = errors.Join(
		add(unknownKind, unknown(), nil), add("unknown, again", unknown(), nil), add("denied", denied, err1), add("denied, with a subject", subject, err2),
		add("expired", expired, err3), add("another tenant's", strange, err4), add("erased", erased, err5))
	time.Sleep(time.Until(soon) + 10*time.Millisecond)
	return kinds, err
}

func (w *timed) tokens(ctx context.Context, c vault.Call, like vault.TokenizeItem) ([]secret.Text, error) {
	items := make([]vault.TokenizeItem, timingTokens)
	for i := range items {
		items[i] = like
		items[i].Type, items[i].Value = deniedType, secret.NewPlaintext([]byte(strconv.Itoa(i)+" Some Street"))
	}
	made, err := w.Regions[0].Vault.Tokenize(ctx, c, vault.TokenizeRequest{Items: items})
	tokens := make([]secret.Text, len(made))
	for i := range made {
		tokens[i] = made[i].Token
	}
	return tokens, err
}

// unknown are tokens as the vault would have made them.
func unknown() []secret.Text {
	tokens := make([]secret.Text, timingTokens)
	for i := range tokens {
		var bits [pii.TokenSecretSize]byte
		_, _ = rand.Read(bits[:]) // it never fails
		tokens[i] = secret.NewText("dev." + deniedType + ".eu-west-1." + base64.RawURLEncoding.EncodeToString(bits[:]))
	}
	return tokens
}

// measure takes n times of each kind.
func (w *timed) measure(ctx context.Context, kinds []kind, n int) ([][]time.Duration, error) {
	c, err := dial(ctx, &server{addr: w.addr, key: w.key})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }() // all was read
	random := mathrand.New(mathrand.NewPCG(1, 1))
	took := make([][]time.Duration, len(kinds))
	for round := range n + timingWarmUp {
		for _, i := range random.Perm(len(kinds)) {
			begun := time.Now()
			status, answer, err := c.exchange("/v1/detokenize", kinds[i].bodies[round%timingTokens])
			spent := time.Since(begun)
			if err != nil || status != "404" {
				return nil, fmt.Errorf("%s is answered %s: %.300s: %w", kinds[i].name, status, answer, err)
			}
			if round >= timingWarmUp {
				took[i] = append(took[i], spent)
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return took, nil
}
