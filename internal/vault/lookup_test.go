package vault_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// unknownIn is a token that nothing stands for, with a region's hint.
func unknownIn(region string) secret.Text {
	return secret.NewText("dev.email." + region + ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
}

// newest is the latest entry of a detokenize in a region.
func (w *world) newest(v *vault.Vault) audit.Entry {
	w.t.Helper()
	return w.entries(v, "detokenize")[0].Entry
}

// asked counts, by region, the tokens that others' tables are asked for.
type asked map[string][]int

func (a asked) option() option {
	return wrapped(func(_ string, cfg *vault.Config) {
		for i := range cfg.Others {
			region, read := cfg.Others[i].Region, cfg.Others[i].Read
			cfg.Others[i].Read = func(ctx context.Context, refs []store.Ref) ([]store.State, error) {
				a[region] = append(a[region], len(refs))
				return read(ctx, refs)
			}
		}
	})
}

// Other regions are asked for what is not known here and may be there, each
// once for a batch, and for nothing else.
func TestWhichRegionsAreAsked(t *testing.T) {
	const third = "ap-south-1"
	calls := asked{}
	w := newWorld(t, calls.option(), func(c *sim.Config) { c.Regions = append(c.Regions, third) },
		withPolicy(t, `@id("extra.denied") forbid (principal, action == Action::"detokenize", resource) when { resource.type == "address" };`))
	c := w.Region(third).Vault
	denied, here, replicated := w.token(w.b, "address", "1 Some Street"), w.token(w.a, "email", "a@example.com"), w.token(w.b, "email", "b@example.com")
	w.settle()
	for name, test := range map[string]struct {
		tokens []secret.Text
		want   asked
	}{
		"unknown, of this region": {[]secret.Text{unknownIn(regionA)}, asked{}},
		"unknown, of another":     {[]secret.Text{unknownIn(regionB)}, asked{regionB: {1}}},
		"unknown, of two others":  {[]secret.Text{unknownIn(regionB), here, unknownIn(third), unknownIn(regionB)}, asked{regionB: {2}, third: {1}}},
		"unknown, of any":         {[]secret.Text{unknownIn(pii.AnyRegion)}, asked{regionB: {1}, third: {1}}},
		"no token":                {[]secret.Text{secret.NewText("hello")}, asked{}},
		"known":                   {[]secret.Text{here, replicated}, asked{}},
		"denied, of another":      {[]secret.Text{denied}, asked{regionB: {1}}},
		"found in the first":      {[]secret.Text{w.token(w.b, "customer_email", "b@example.com")}, asked{regionB: {1}}},
		"found in the second":     {[]secret.Text{w.token(c, "customer_email", "c@example.com")}, asked{regionB: {1}, third: {1}}},
	} {
		clear(calls)
		req := ask(test.tokens...)
		req.Continue = true
		if _, err := w.a.Detokenize(t.Context(), w.admin, req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.EqualFunc(calls, test.want, slices.Equal[[]int]) {
			t.Errorf("%s: asked %v, want %v", name, calls, test.want)
		}
	}
}

// A region that cannot be asked makes nothing unknown that it does not concern.
func TestARegionThatIsOutConcernsItsTokensOnly(t *testing.T) {
	w := newWorld(t)
	here, replicated := w.token(w.a, "email", "a@example.com"), w.token(w.b, "email", "b@example.com")
	w.settle()
	w.cut(regionB, true)
	w.wantReveal(w.a, here, "a@example.com")
	w.wantReveal(w.a, replicated, "b@example.com")
	w.wantGone(w.a, unknownIn(regionA))
	w.wantGone(w.a, secret.NewText("hello"))
	req := ask(replicated, unknownIn(regionA), unknownIn(regionB))
	req.Continue = true
	out, err := w.a.Detokenize(t.Context(), w.admin, req)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "not_found", "not_yet_visible"} {
		if e := out.Items[i].Err; (e == nil) != (want == "") || e != nil && (e.Code != want || e.Retryable != (want == "not_yet_visible")) {
			t.Errorf("item %d: %+v, want %s", i, e, want)
		}
	}
}

// What another region knows changes nothing of what is denied here, nor does
// its tombstone make an entry say more than this region knows.
func TestAnotherRegionsTombstone(t *testing.T) {
	w := newWorld(t, withPolicy(t, `@id("extra.denied") forbid (principal, action == Action::"detokenize", resource) when { resource.type == "address" };`))
	denied := w.token(w.b, "address", "1 Some Street")
	w.settle()
	unseen := w.token(w.b, "email", "b@example.com")
	w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{denied, unseen}})
	for want, token := range map[audit.Outcome]secret.Text{audit.Denied: denied, audit.NotFound: unseen} {
		w.wantGone(w.a, token)
		if got := w.newest(w.a).Outcome; got != want {
			t.Errorf("the entry says %s, want %s", got, want)
		}
	}
}

// What is found elsewhere, and what could not be asked, costs no misses.
func TestOnlyMissesCostMisses(t *testing.T) {
	w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) { cfg.RemoteMisses = 1 }))
	token := w.token(w.b, "email", "b@example.com")
	for range 5 {
		w.wantReveal(w.a, token, "b@example.com")
	}
	w.cut(regionB, true)
	for range 5 {
		_, err := w.a.Detokenize(t.Context(), w.admin, ask(unknownIn(regionB)))
		wantCode(t, err, vault.ErrUnavailable, "not_yet_visible")
	}
	w.cut(regionB, false)
	w.wantGone(w.a, unknownIn(regionB))
	w.wantReveal(w.a, token, "b@example.com")
}

// A batch that is refused releases nothing, and no entry says that it did (G6).
func TestARefusedBatchIsOnRecordAsRefused(t *testing.T) {
	w := newWorld(t)
	good := w.token(w.a, "email", "a@example.com")
	_, err := w.a.Detokenize(t.Context(), w.admin, ask(good, unknownIn(regionA), good))
	wantCode(t, err, vault.ErrNotFound, "not_found")
	refused, _ := errors.AsType[*vault.Error](err)
	if len(refused.Items) != 1 || refused.Items[0].Index != 1 {
		t.Errorf("refused %+v", refused.Items)
	}
	if n := w.outcomes("detokenize"); n[audit.NotFound] != 1 || len(n) != 1 {
		t.Errorf("entries %v", n)
	}
	if e := w.newest(w.a); e.Reveal != string(vault.Plain) || e.DataKey != "" || len(e.Copies) != 0 || e.Type != "" {
		t.Errorf("the entry of a miss: %+v", e)
	}
}

// G6: the entry of a reveal names the record, its data key and copies, and
// what was granted, not what was asked for.
func TestTheEntryOfAReveal(t *testing.T) {
	w := newWorld(t)
	token := w.subjectToken(w.a, "card_number", "4111111111111111", "C-1")
	in, err := w.a.Inspect(t.Context(), w.admin, []secret.Text{token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.Detokenize(t.Context(), w.as(authz.RoleSupport), ask(token)); err != nil {
		t.Fatal(err)
	}
	e := w.newest(w.a)
	if e.Reveal != string(vault.Masked) || e.DataKey != in[0].DataKey || !sameSet(e.Copies, regionA, regionB) || e.Type != "card_number" || e.Subject == "" || e.Decision != "allow" {
		t.Errorf("the entry: %+v", e)
	}
}

// G8: a record that is no message any more is an error of its own, whatever
// other regions say and whatever else is in the batch; nothing is released.
func TestARecordThatIsNoMessage(t *testing.T) {
	rw := newRingWorld(t)
	corrupt := rw.token(rw.b, "email", "ann@example.com")
	rw.settle()
	r := rw.rows(regionA)[0]
	next := *r
	next.Message = []byte("no message")
	if err := rw.cfgs[regionA].Store.Replace(t.Context(), r, &next); err != nil {
		t.Fatal(err)
	}
	good, unseen := rw.token(rw.a, "email", "a@example.com"), rw.token(rw.b, "email", "b@example.com")
	for _, out := range []bool{false, true} {
		rw.cut(regionB, out)
		_, err := rw.a.Detokenize(t.Context(), rw.admin, ask(corrupt))
		wantCode(t, err, vault.ErrCorrupt, "integrity")
		if got := rw.newest(rw.a); got.Outcome != audit.Failed || got.About != nil {
			t.Errorf("the entry says %s", got.Outcome)
		}
	}
	for name, test := range map[string]struct {
		tokens []secret.Text
		kind   error
	}{
		"corrupt first":      {[]secret.Text{corrupt, unseen}, vault.ErrCorrupt},
		"corrupt last":       {[]secret.Text{unseen, corrupt}, vault.ErrCorrupt},
		"corrupt amid":       {[]secret.Text{unknownIn(regionA), corrupt, good, unseen}, vault.ErrCorrupt},
		"unknown and unseen": {[]secret.Text{unknownIn(regionA), unseen}, vault.ErrUnavailable},
		"unseen and unknown": {[]secret.Text{unseen, unknownIn(regionA)}, vault.ErrUnavailable},
	} {
		_, err := rw.a.Detokenize(t.Context(), rw.admin, ask(test.tokens...))
		t.Log(name)
		wantCode(t, err, test.kind, "invalid_request")
	}
}

// What is of a type that is configured no more is denied, a later generation
// of a deterministic one too: there is no mask and no rule to go by.
func TestATypeThatIsConfiguredNoMore(t *testing.T) {
	rw := newRingWorld(t)
	random, first := rw.token(rw.a, "note", "call back"), rw.token(rw.a, "customer_email", "ann@example.com")
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{first}})
	rw.completeErase()
	second := rw.token(rw.a, "customer_email", "ann@example.com")
	catalog, err := pii.NewCatalog(pii.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Catalog = catalog })
	for _, token := range []secret.Text{random, second} {
		rw.wantGone(v, token)
		if got := rw.newest(rw.a).Outcome; got != audit.Denied {
			t.Errorf("the entry says %s", got)
		}
	}
	rw.wantReveal(rw.a, second, "ann@example.com")
}

// deafTable answers no read.
type deafTable struct{ store.Store }

// Read implements store.Store.
func (deafTable) Read(context.Context, []store.Ref) ([]store.State, error) { return nil, errFault }

// A table that cannot be read tells nothing, not even that a token is unknown.
func TestLookupWithoutATable(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Store = deafTable{c.Store} })
	_, err := v.Detokenize(t.Context(), rw.admin, ask(token))
	wantCode(t, err, vault.ErrUnavailable, "unavailable")
	_, err = v.Inspect(t.Context(), rw.admin, []secret.Text{token})
	wantCode(t, err, vault.ErrUnavailable, "unavailable")
}
