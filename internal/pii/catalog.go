package pii

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// ErrConfig is what every refusal of a configured type wraps.
var ErrConfig = errors.New("pii: types")

// formatPreserving and searchable types come with a later version; a config
// that asks for them is refused, never served with something weaker.
const formatPreserving TokenFormat = "format_preserving"

// Catalog is the validated set of configured types. It never changes after
// NewCatalog and is safe for concurrent use.
type Catalog struct {
	sorted []*Type
	byName map[string]*Type
}

// NewCatalog validates types and keeps copies of them. It fills in what is
// zero: Token (Random) and MaxBytes (the kind's limit). An error wraps
// ErrConfig and names the type by its position, from 1, and by its name.
func NewCatalog(types []Type) (*Catalog, error) {
	c := &Catalog{byName: make(map[string]*Type, len(types))}
	for i, t := range types {
		if err := t.complete(); err != nil {
			return nil, fmt.Errorf("%w: number %d%s: %w", ErrConfig, i+1, t.label(), err)
		}
		if c.byName[t.Name] != nil {
			return nil, fmt.Errorf("%w: number %d%s: the name is taken", ErrConfig, i+1, t.label())
		}
		c.byName[t.Name] = &t
		c.sorted = append(c.sorted, &t)
	}
	if len(c.sorted) == 0 {
		return nil, fmt.Errorf("%w: there must be at least one", ErrConfig)
	}
	slices.SortFunc(c.sorted, func(a, b *Type) int { return cmp.Compare(a.Name, b.Name) })
	return c, nil
}

// BuiltIn returns one type per kind, of the kind's name: random tokens, bound,
// a data key per field, no expiry.
func BuiltIn() []Type {
	types := make([]Type, 0, len(Kinds()))
	for _, kind := range Kinds() {
		r, _ := rulesOf(kind)
		types = append(types, Type{Name: kind, Kind: kind, Token: Random, Bound: true, MaxBytes: r.limit})
	}
	return types
}

// Lookup returns the type of that name.
func (c *Catalog) Lookup(name string) (*Type, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// All returns the types sorted by name; the slice is the caller's, the types are shared.
func (c *Catalog) All() []*Type { return slices.Clone(c.sorted) }

// label is the type's name for an error, where it is fit to print.
func (t *Type) label() string {
	if !validName(t.Name) {
		return ""
	}
	return " (" + t.Name + ")"
}

// complete fills in defaults and validates.
func (t *Type) complete() error {
	if !validName(t.Name) {
		return errors.New("a name is a letter a-z, then up to 31 of a-z 0-9 _")
	}
	r, ok := rulesOf(t.Kind)
	if !ok {
		return errors.New("there is no such kind")
	}
	if t.MaxBytes == 0 {
		t.MaxBytes = r.limit
	}
	if t.MaxBytes < 0 || t.MaxBytes > r.limit {
		return fmt.Errorf("max_bytes is 1 to %d for this kind", r.limit)
	}
	if t.TTL < 0 {
		return errors.New("ttl is negative")
	}
	if err := t.completeToken(r); err != nil {
		return err
	}
	return t.DataKey.validate()
}

func (t *Type) completeToken(r rules) error {
	switch t.Token {
	case "", Random:
		t.Token = Random
		return nil
	case Deterministic:
	case formatPreserving:
		return errors.New("format_preserving tokens are not in this version")
	default:
		return errors.New("token is random or deterministic")
	}
	switch {
	case t.Bound:
		return errors.New("bound exists with random tokens only: a deterministic one is no secret of its own")
	case t.TTL != 0:
		return errors.New("a deterministic type has no ttl: the same value must keep its token")
	case r.guessable && !t.AcceptGuessing:
		return errors.New("values of this kind can be guessed one by one from a deterministic token by whoever unwraps the tenant secret: say accept_guessing: true, or use random")
	}
	return nil
}

func (p DataKeyPolicy) validate() error {
	switch {
	case !p.Reuse && p != DataKeyPolicy{}:
		return errors.New("data_key: limits belong to reuse")
	case p.Reuse && (p.MaxMessages <= 0 || p.MaxBytes <= 0 || p.MaxAge <= 0):
		return errors.New("data_key: reuse needs max_messages, max_bytes and max_age, all above zero")
	}
	return nil
}
