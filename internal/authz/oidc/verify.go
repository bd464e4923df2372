package oidc

import (
	"cmp"
	"context"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"piivault/internal/authz"
	"piivault/internal/secret"
)

const (
	// maxToken and maxHeader bound what is parsed, in characters. Tokens of
	// well-known providers have some 1,000 to 3,000, their headers 100.
	maxToken  = 8 << 10
	maxHeader = 1 << 10

	// leeway is how far an issuer's clock may be ahead of ours. A token's end
	// has none: it ends when it says.
	leeway = 30 * time.Second

	// maxTime is the end of the year 9999: beyond are no times, but overflows.
	maxTime = 253402300799

	// maxVerifying bounds the signatures that are checked at once, so that
	// they cannot take every core from those who are signed in.
	maxVerifying = 16
)

// jwt is a token whose signature is not checked yet.
type jwt struct {
	text   string
	header header
	issuer string
}

// header is what is looked at of a JOSE header (RFC 7515 §4.1). jku, jwk, x5u
// and x5c are not: keys come from the issuer.
type header struct {
	Algorithm string         `json:"alg"`
	KeyID     string         `json:"kid"`
	Type      string         `json:"typ"`
	Critical  jsontext.Value `json:"crit"`
	Encoded   jsontext.Value `json:"b64"`
}

// Recall implements authz.Tokens: who holds a token that was verified
// lately, with keys that the issuer still has.
func (v *Issuers) Recall(token secret.Text) (authz.Identity, bool) {
	text := token.Reveal()
	if len(text) > maxToken {
		return authz.Identity{}, false
	}
	found, ok := v.verified.get(digestOf(text))
	now := v.now()
	if !ok || !now.Before(found.until) || found.keys != found.issuer.keys.usable(now) {
		return authz.Identity{}, false
	}
	return found.identity, true
}

// Verify implements authz.Tokens. An error is ErrUnauthenticated, or
// ErrUnavailable where the issuer's keys cannot be known now.
func (v *Issuers) Verify(ctx context.Context, token secret.Text) (authz.Identity, error) {
	t, ok := parse(token.Reveal())
	if !ok {
		return authz.Identity{}, authz.ErrUnauthenticated
	}
	from := v.byURL[t.issuer]
	if from == nil || !slices.Contains(from.Algorithms, t.header.Algorithm) {
		return authz.Identity{}, authz.ErrUnauthenticated
	}
	set, err := from.keys.having(ctx, t.header.KeyID)
	if err != nil {
		return authz.Identity{}, err
	}
	select {
	case v.semaphore <- struct{}{}:
		defer func() { <-v.semaphore }()
	case <-ctx.Done():
		return authz.Identity{}, authz.ErrUnavailable
	}
	payload, ok := t.verified(set)
	if !ok {
		return authz.Identity{}, authz.ErrUnauthenticated
	}
	now := v.now()
	identity, until, ok := from.identify(payload, now)
	if !ok {
		return authz.Identity{}, authz.ErrUnauthenticated
	}
	v.verified.put(digestOf(t.text), remembered{from, set, identity, until}, now)
	return identity, nil
}

// parse looks at a token as far as is needed to find its key.
func parse(text string) (t jwt, ok bool) {
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return jwt{}, false
	}
	head, rest, _ := strings.Cut(text, ".")
	body, signature, _ := strings.Cut(rest, ".")
	if len(head) > maxHeader {
		return jwt{}, false
	}
	if _, ok := decode(signature); !ok {
		return jwt{}, false
	}
	t.text = text
	var claims struct {
		Issuer string `json:"iss"`
	}
	if !segment(head, &t.header) || !segment(body, &claims) {
		return jwt{}, false
	}
	t.issuer = claims.Issuer
	return t, t.header.acceptable()
}

// segment decodes a part; json refuses repeated members, at any depth.
func segment(text string, into any) bool {
	b, ok := decode(text)
	return ok && json.Unmarshal(b, into) == nil
}

// decode takes one spelling only: package base64 would skip line breaks.
func decode(text string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

// acceptable refuses extensions (RFC 7515 §4.1.11) and tokens of other uses
// (RFC 8725 §3.11): typ is absent, JWT (RFC 7519 §5.1) or at+jwt (RFC 9068 §2.1).
func (h *header) acceptable() bool {
	typ := strings.TrimPrefix(strings.ToLower(h.Type), "application/")
	return h.Critical == nil && h.Encoded == nil && h.KeyID != "" && (typ == "" || typ == "jwt" || typ == "at+jwt")
}

// verified returns the payload where one of the keys of the header's kid
// signed it, by the algorithm that the header names and the issuer has.
func (t *jwt) verified(set *keySet) (payload []byte, ok bool) {
	signature, err := jose.ParseSignedCompact(t.text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(t.header.Algorithm)})
	if err != nil {
		return nil, false
	}
	for _, key := range set.byID[t.header.KeyID] {
		if !key.fits(t.header.Algorithm) {
			continue
		}
		if payload, err = signature.Verify(key.public); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// identify checks the claims of a verified token (RFC 7519 §4.1) and maps
// them; until is when it must be verified again.
func (i *issuer) identify(payload []byte, now time.Time) (id authz.Identity, until time.Time, ok bool) {
	c := claims{}
	if json.Unmarshal(payload, &c) != nil || c.text("iss") != i.URL || !c.hasAny("aud", i.Audiences) {
		return id, until, false
	}
	expires, ok := c.time("exp")
	if !ok || !now.Before(expires) || expires.After(now.Add(i.MaxLifetime+leeway)) ||
		!c.begun("nbf", now) || !c.begun("iat", now) {
		return id, until, false
	}
	tenant := i.Tenant
	if i.TenantClaim != "" {
		tenant, _ = c.find(i.TenantClaim).(string)
	}
	subject := c.text("sub")
	if tenant == "" || subject == "" || len(subject) > maxSubject {
		return id, until, false
	}
	shown, err := i.types.Read(i.shown(c))
	if err != nil {
		return id, until, false
	}
	until = now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	return authz.Identity{
		ID: "oidc_" + i.Name + "_" + subjectID(subject), Name: i.Name, Tenant: tenant,
		Roles: i.roles(c), Authentication: Authentication, Claims: shown,
	}, until, true
}

// shown are the claims for policies, by their names there.
func (i *issuer) shown(c claims) map[string]any {
	values := map[string]any{}
	for _, s := range i.Claims {
		values[s.Name] = c.find(cmp.Or(s.Claim, s.Name))
	}
	return values
}

func (i *issuer) roles(c claims) []authz.Role {
	var roles []authz.Role
	for _, g := range i.Grants {
		if g.Claim == "" || c.hasAny(g.Claim, []string{g.Value}) {
			roles = append(roles, g.Roles...)
		}
	}
	roles, _ = authz.CanonicalRoles(roles) // Validate has checked them; of none there are none
	return roles
}

// claims are a token's; a member of another type than expected is absent.
type claims map[string]any

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// hasAny reports that a claim is one of the texts, or a list that holds one.
func (c claims) hasAny(name string, texts []string) bool {
	switch found := c.find(name).(type) {
	case string:
		return slices.Contains(texts, found)
	case []any:
		return slices.ContainsFunc(found, func(v any) bool {
			s, ok := v.(string)
			return ok && slices.Contains(texts, s)
		})
	}
	return false
}

// find follows a JSON pointer, or takes a member by its name.
func (c claims) find(name string) any {
	if !strings.HasPrefix(name, "/") {
		return c[name]
	}
	var at any = map[string]any(c)
	for step := range strings.SplitSeq(name[1:], "/") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return at
}

// time reads a NumericDate (RFC 7519 §2).
func (c claims) time(name string) (time.Time, bool) {
	seconds, ok := c[name].(float64)
	if !ok || seconds < 0 || seconds > maxTime {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// begun reports that a time is absent or, but for the leeway, not to come.
func (c claims) begun(name string, now time.Time) bool {
	if _, there := c[name]; !there {
		return true
	}
	at, ok := c.time(name)
	return ok && !at.After(now.Add(leeway))
}
