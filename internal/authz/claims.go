package authz

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// ClaimType is what a claim of a token must be for policies to see it.
type ClaimType string

// The types, as Cedar has them. Of strings one alone is a set of one.
const (
	ClaimString  ClaimType = "string"
	ClaimStrings ClaimType = "strings"
	ClaimLong    ClaimType = "long"
	ClaimBool    ClaimType = "bool"
)

// AllClaimTypes returns every type.
func AllClaimTypes() []ClaimType { return []ClaimType{ClaimString, ClaimStrings, ClaimLong, ClaimBool} }

const (
	// maxClaims bounds the claims that a deployment declares.
	maxClaims = 32
	// maxClaimName is the longest name of one, in bytes.
	maxClaimName = 64
	// maxLong is the greatest whole number that every reader of JSON has
	// exactly (RFC 8259 §6).
	maxLong = 1<<53 - 1
)

// ClaimTypes declares the members of principal.claims, by name. Each is
// optional: Cedar's validation wants a policy to ask `principal.claims has x`
// before it reads x.
type ClaimTypes map[string]ClaimType

// Claims are what policies see of a verified token; immutable, the zero value
// has none.
type Claims struct{ record cedar.Record }

// errClaim refuses a value that is not of its declared type. It quotes nothing.
var errClaim = errors.New("a claim is not declared, or of another type than declared")

// Validate says what is wrong with a declaration, without quoting it.
func (t ClaimTypes) Validate() error {
	if len(t) > maxClaims {
		return fmt.Errorf("at most %d claims can be declared", maxClaims)
	}
	for name, typ := range t {
		switch {
		case !isClaimName(name):
			return errors.New("a claim's name for policies is 1 to 64 of a-z 0-9 _, begins with a letter and is no word of Cedar's")
		case !slices.Contains(AllClaimTypes(), typ):
			return errors.New("a claim's type is string, strings, long or bool")
		}
	}
	return nil
}

// isClaimName leaves out the words that cannot follow a dot (Cedar's grammar, IDENT).
func isClaimName(s string) bool {
	reserved := []string{"true", "false", "if", "then", "else", "in", "is", "like", "has"}
	return s != "" && len(s) <= maxClaimName && s[0] >= 'a' && s[0] <= 'z' && !slices.Contains(reserved, s) &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// Read takes values as JSON decodes them, by name: nil is one that is absent.
// One of another type than declared is an error: what a policy cannot be asked
// about must not look like what is not there.
func (t ClaimTypes) Read(values map[string]any) (Claims, error) {
	record := cedar.RecordMap{}
	for name, value := range values {
		if value == nil {
			continue
		}
		read, ok := t[name].read(value)
		if !ok {
			return Claims{}, errClaim
		}
		record[cedar.String(name)] = read
	}
	return Claims{cedar.NewRecord(record)}, nil
}

func (t ClaimType) read(value any) (cedar.Value, bool) {
	switch v := value.(type) {
	case string:
		if t == ClaimStrings {
			return cedar.NewSet(cedar.String(v)), true
		}
		return cedar.String(v), t == ClaimString
	case bool:
		return cedar.Boolean(v), t == ClaimBool
	case float64:
		return cedar.Long(v), t == ClaimLong && v == math.Trunc(v) && math.Abs(v) <= maxLong
	case []any:
		list, ok := readStrings(v)
		return list, ok && t == ClaimStrings
	}
	return nil, false
}

func readStrings(values []any) (cedar.Set, bool) {
	list := make([]cedar.Value, len(values))
	for i, v := range values {
		s, ok := v.(string)
		if !ok {
			return cedar.Set{}, false
		}
		list[i] = cedar.String(s)
	}
	return cedar.NewSet(list...), true
}

// noClaims is how the schema declares principal.claims where none are.
const noClaims = "type Claims = {};"

// PolicySchema is the schema that policies are checked against, with these claims.
func (t ClaimTypes) PolicySchema() ([]byte, error) {
	text, err := policyFiles.ReadFile(policyDir + "/" + schemaFile)
	if err != nil {
		return nil, fmt.Errorf("read the policy schema: %w", err)
	}
	before, after, found := strings.Cut(string(text), noClaims)
	if !found {
		return nil, errors.New("the policy schema declares no claims")
	}
	if len(t) == 0 {
		return text, nil
	}
	var b strings.Builder
	b.WriteString(before + "type Claims = {\n")
	inCedar := map[ClaimType]string{ClaimString: "String", ClaimStrings: "Set<String>", ClaimLong: "Long", ClaimBool: "Bool"}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "\t%s?: %s,\n", name, inCedar[t[name]])
	}
	b.WriteString("};" + after)
	return []byte(b.String()), nil
}
