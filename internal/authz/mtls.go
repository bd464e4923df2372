package authz

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// mtlsAuthentication is Principal.Authentication of those who come with a certificate.
const mtlsAuthentication = "mtls"

// maxURI is the longest URI of a certificate that is looked at: that of a
// SPIFFE ID (SPIFFE-ID §2.3); maxPlainURI the longest that is spelled out in a
// principal's id.
const (
	maxURI      = 2048
	maxPlainURI = 200
)

// CertificateRule gives those whose certificate has a URI a tenant and roles.
// Whom the client CA names so is trusted to be it.
type CertificateRule struct {
	// URI is SCHEME://AUTHORITY/PATH, such as a SPIFFE ID. With /* at its end
	// it stands for every URI below it. An exact rule comes before these, and
	// a longer one before a shorter one.
	URI    string
	Tenant string // id or alias
	Roles  []Role
}

// certificateRules by their URI; those of prefixes with the / that ends them.
type certificateRules struct{ exact, below map[string]CertificateRule }

func newCertificateRules(list []CertificateRule) (certificateRules, error) {
	c := certificateRules{map[string]CertificateRule{}, map[string]CertificateRule{}}
	for _, r := range list {
		if err := r.Validate(); err != nil {
			return c, err
		}
		r.Roles, _ = canonicalRoles(r.Roles) // Validate has
		rules, uri := c.exact, r.URI
		if prefix, ok := strings.CutSuffix(uri, "*"); ok {
			rules, uri = c.below, prefix
		}
		if _, twice := rules[uri]; twice {
			return c, &InputError{"bad_certificate_rule", "two rules have the same URI"}
		}
		rules[uri] = r
	}
	return c, nil
}

// Validate says what is wrong with a rule, without quoting it.
func (r *CertificateRule) Validate() error {
	uri, prefix := strings.CutSuffix(r.URI, "/*")
	if _, ok := uriSegments(uri); !ok && (!prefix || !isAuthority(uri)) {
		return &InputError{"bad_certificate_rule", "a certificate's URI is scheme://name/path of a-z A-Z 0-9 . _ -, and may end with /*"}
	}
	if !isID(r.Tenant) && checkAlias(r.Tenant) != nil {
		return &InputError{"bad_certificate_rule", "a certificate's tenant is its id or alias"}
	}
	if _, err := canonicalRoles(r.Roles); err != nil {
		return err
	}
	return nil
}

// identify maps a certificate's URI. One that is not in the plain form of
// uriSegments is nobody's: two spellings of a path must not be two callers.
func (c *certificateRules) identify(uri string) (Identity, bool) {
	segments, ok := uriSegments(uri)
	if !ok {
		return Identity{}, false
	}
	rule, found := c.exact[uri]
	for end := len(uri); !found && end > 0; {
		end = strings.LastIndexByte(uri[:end], '/')
		if end < 0 {
			break
		}
		rule, found = c.below[uri[:end+1]]
	}
	if !found {
		return Identity{}, false
	}
	return Identity{
		ID: "mtls_" + uriID(uri, segments), Name: uri, Tenant: rule.Tenant, Roles: rule.Roles,
		Authentication: mtlsAuthentication,
	}, true
}

// uriSegments splits SCHEME://AUTHORITY/PATH. It takes what SPIFFE-ID §2 does,
// of any scheme: nothing escaped, no empty, . or .. segment, no port, query or
// fragment.
func uriSegments(uri string) (segments []string, ok bool) {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok || len(uri) > maxURI || scheme == "" || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return nil, false
	}
	segments = append([]string{scheme}, strings.Split(rest, "/")...)
	for _, s := range segments[1:] {
		if !isURISegment(s) {
			return nil, false
		}
	}
	return segments, len(segments) > 2
}

// isAuthority is a URI that ends before its path.
func isAuthority(uri string) bool {
	_, ok := uriSegments(uri + "/x")
	return ok && strings.Count(uri, "/") == 2
}

func isURISegment(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return s != "" && s != "." && s != ".." && strings.Trim(s, allowed) == ""
}

// uriID is a URI in a principal's id: its segments, joined by :, which none of
// them has; of a long one ~~ and a hash.
func uriID(uri string, segments []string) string {
	if id := strings.Join(segments, ":"); len(id) <= maxPlainURI {
		return id
	}
	sum := sha256.Sum256([]byte("piivault/certificate-uri/v1\x00" + uri))
	return "~~" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}
