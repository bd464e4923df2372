package pii_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/internal/pii"
)

func TestBuiltInTypesAreOnePerKindRandomAndBound(t *testing.T) {
	catalog, err := pii.NewCatalog(pii.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, typ := range catalog.All() {
		names = append(names, typ.Name)
		limit := 4 << 10
		if slices.Contains([]string{"text", "json", "bytes"}, typ.Kind) {
			limit = 64 << 10
		}
		want := pii.Type{Name: typ.Name, Kind: typ.Name, Token: pii.Random, Bound: true, MaxBytes: limit}
		if *typ != want {
			t.Errorf("%s is %+v", typ.Name, *typ)
		}
		found, ok := catalog.Lookup(typ.Name)
		if !ok || found != typ {
			t.Errorf("%s is not found", typ.Name)
		}
	}
	want := slices.Sorted(slices.Values(pii.Kinds()))
	if !slices.Equal(names, want) || len(names) != 13 {
		t.Errorf("got %v", names)
	}
	if _, ok := catalog.Lookup("none"); ok {
		t.Error("an unknown name is found")
	}
}

func TestNewCatalogFillsInDefaultsAndKeepsACopy(t *testing.T) {
	types := []pii.Type{{Name: "b", Kind: "name"}, {Name: "a", Kind: "text", MaxBytes: 10}}
	catalog, err := pii.NewCatalog(types)
	if err != nil {
		t.Fatal(err)
	}
	types[0].Kind = "changed"
	b, _ := catalog.Lookup("b")
	if b.Kind != "name" || b.Token != pii.Random || b.MaxBytes != 4<<10 {
		t.Errorf("got %+v", *b)
	}
	if a := catalog.All()[0]; a.Name != "a" || a.MaxBytes != 10 {
		t.Errorf("got %+v", *a)
	}
}

func TestNewCatalogRefusesWhatCannotBeKept(t *testing.T) {
	det := pii.Type{Name: "x", Kind: "email", Token: pii.Deterministic}
	with := func(base pii.Type, change func(*pii.Type)) pii.Type {
		change(&base)
		return base
	}
	cases := map[string]pii.Type{
		"a letter":           {Name: "9x", Kind: "email"},
		"no such kind":       {Name: "x", Kind: "emails"},
		"1 to 4096":          {Name: "x", Kind: "email", MaxBytes: 4097},
		"1 to 65536":         {Name: "x", Kind: "text", MaxBytes: -1},
		"ttl is negative":    {Name: "x", Kind: "email", TTL: -1},
		"token is random":    {Name: "x", Kind: "email", Token: "rnd"},
		"not in this":        {Name: "x", Kind: "email", Token: "format_preserving"},
		"bound exists":       with(det, func(t *pii.Type) { t.Bound = true }),
		"has no ttl":         with(det, func(t *pii.Type) { t.TTL = time.Hour }),
		"accept_guessing":    with(det, func(t *pii.Type) { t.Kind = "phone" }),
		"belong to reuse":    with(det, func(t *pii.Type) { t.DataKey.MaxMessages = 1 }),
		"reuse needs":        with(det, func(t *pii.Type) { t.DataKey = pii.DataKeyPolicy{Reuse: true, MaxMessages: 1, MaxBytes: 1} }),
		"reuse needs max_me": with(det, func(t *pii.Type) { t.DataKey = pii.DataKeyPolicy{Reuse: true, MaxAge: 1, MaxBytes: 1} }),
	}
	for want, typ := range cases {
		_, err := pii.NewCatalog([]pii.Type{{Name: "ok", Kind: "name"}, typ})
		if !errors.Is(err, pii.ErrConfig) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "number 2") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := pii.NewCatalog([]pii.Type{{Name: "x", Kind: "name"}, {Name: "x", Kind: "text"}}); !errors.Is(err, pii.ErrConfig) {
		t.Errorf("two of one name: %v", err)
	}
	if _, err := pii.NewCatalog(nil); !errors.Is(err, pii.ErrConfig) {
		t.Errorf("none: %v", err)
	}
}

// G5: values that can be listed need the operator's word before they get deterministic tokens.
func TestWhichKindsNeedAcceptGuessing(t *testing.T) {
	free := []string{"email", "address", "text", "json", "bytes"}
	for _, kind := range pii.Kinds() {
		typ := pii.Type{Name: "x", Kind: kind, Token: pii.Deterministic}
		_, err := pii.NewCatalog([]pii.Type{typ})
		if (err == nil) != slices.Contains(free, kind) {
			t.Errorf("%s: %v", kind, err)
		}
		typ.AcceptGuessing = true
		if _, err := pii.NewCatalog([]pii.Type{typ}); err != nil {
			t.Errorf("%s with accept_guessing: %v", kind, err)
		}
	}
}
