package pii_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/google/go-cmp/cmp"

	"piivault/internal/pii"
)

const config = `
- name: email
  kind: email
- name: card_lookup      # guessed offline by whoever unwraps the tenant secret
  kind: card_number
  token: deterministic
  accept_guessing: true
  searchable: false
  data_key: per_field
- {name: note, kind: text, bound: false, ttl: 30d, max_bytes: 1000}
- name: visit
  kind: ip
  ttl: 90m
  data_key:
    reuse: {max_messages: 100, max_bytes: 1000000, max_age: 5m}
`

func TestLoadTypes(t *testing.T) {
	got, err := pii.LoadTypes([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	want := []pii.Type{
		{Name: "email", Kind: "email", Token: pii.Random, Bound: true, MaxBytes: 4096},
		{Name: "card_lookup", Kind: "card_number", Token: pii.Deterministic, MaxBytes: 4096, AcceptGuessing: true},
		{Name: "note", Kind: "text", Token: pii.Random, TTL: 30 * 24 * time.Hour, MaxBytes: 1000},
		{
			Name: "visit", Kind: "ip", Token: pii.Random, Bound: true, TTL: 90 * time.Minute, MaxBytes: 4096,
			DataKey: pii.DataKeyPolicy{Reuse: true, MaxMessages: 100, MaxBytes: 1000000, MaxAge: 5 * time.Minute},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := pii.NewCatalog(got); err != nil {
		t.Error(err)
	}
}

// Every refusal tells where, wraps ErrConfig and quotes no value: the values
// here say canary.
func TestLoadTypesRefusesWithLineAndColumn(t *testing.T) {
	for text, want := range map[string]string{
		"- name: a\n  kind: email\n  tokn: canary":            "line 3, column 3: unknown key tokn",
		"- name: a\n  Canary value: x":                        "line 2, column 3: unknown key",
		"- name: a\n  kind: email\n  name: canary":            "line 3, column 3: name is given twice",
		"- name: canary\n  kind: [":                           "line 2, column 9: this is not YAML",
		"types: canary":                                       "line 1, column 1: types is a list",
		"- canary":                                            "line 1, column 3: this must be a mapping",
		"":                                                    "types is one list",
		"- name: a\n---\n- name: b":                           "types is one list",
		"- name: 5":                                           "line 1, column 9: this must be a text",
		"- name: a\n  bound: canary":                          "line 2, column 10: this must be true or false",
		"- name: a\n  max_bytes: canary":                      "line 2, column 14: this must be an integer",
		"- name: a\n  max_bytes: 0":                           "line 2, column 14: this must be an integer",
		"- name: a\n  max_bytes: 0x10":                        "line 2, column 14: this must be an integer",
		"- name: a\n  max_bytes: 99999999999":                 "line 2, column 14: this must be an integer",
		"- name: a\n  ttl: canary":                            "line 2, column 8: this must be a duration",
		"- name: a\n  ttl: 99999999d":                         "line 2, column 8: this must be a duration",
		"- name: a\n  ttl: -1h":                               "line 2, column 8: this must be a duration",
		"- name: a\n  ttl:":                                   "this must be a duration",
		"- name: a\n  data_key: canary":                       "line 2, column 13: this must be a mapping",
		"- name: a\n  data_key: {reuse: {max_age: canary}}":   "line 2, column 31: this must be a duration",
		"- name: a\n  data_key: {reuse: {max_age: 1h, x: 1}}": "line 2, column 35: unknown key x",
		"- name: a\n  kind: email\n  data_key: {reuse: {max_age: 1h}}":             "line 1, column 3: (a) data_key: reuse needs",
		"- {name: CANARY, kind: email}":                                            "line 1, column 4: a name is",
		"- {name: a, kind: canary}":                                                "line 1, column 4: (a) there is no such kind",
		"- name: ok\n  kind: name\n- name: d\n  kind: ssn\n  token: deterministic": "line 3, column 3: (d) values of this kind can be guessed",
		"- {name: a, kind: email, token: deterministic, bound: true}":              "(a) bound exists with random tokens only",
		"- {name: a, kind: email, token: deterministic, ttl: 1h}":                  "(a) a deterministic type has no ttl",
		"- {name: a, kind: card_number, token: format_preserving}":                 "line 1, column 4: (a) format_preserving tokens are not in this version",
		"- {name: a, kind: email, searchable: true}":                               "line 1, column 4: searchable types are not in this version",
		"- &x\n  name: canary\n- *x":                                               "this must be a mapping",
	} {
		_, err := pii.LoadTypes([]byte(text))
		if !errors.Is(err, pii.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		} else if strings.Contains(strings.ToLower(err.Error()), "canary") {
			t.Errorf("%q: quoted in %v", text, err)
		}
	}
}

// A list inside a larger document is refused with that document's lines.
func TestDecodeTypesKeepsTheLinesOfTheWholeConfig(t *testing.T) {
	var whole struct{ Types listNode }
	err := yaml.Unmarshal([]byte("addr: x\ntypes:\n  - name: a\n    kind: email\n    colour: red\n"), &whole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pii.DecodeTypes(whole.Types.node); err == nil || !strings.Contains(err.Error(), "line 5, column 5: unknown key colour") {
		t.Errorf("got %v", err)
	}
	if _, err := pii.DecodeTypes(nil); !errors.Is(err, pii.ErrConfig) {
		t.Errorf("got %v", err)
	}
}

type listNode struct{ node ast.Node }

func (l *listNode) UnmarshalYAML(n ast.Node) error {
	l.node = n
	return nil
}

func FuzzLoadTypes(f *testing.F) {
	f.Add(config)
	f.Add("- {name: a, kind: email}")
	f.Fuzz(func(t *testing.T, text string) {
		types, err := pii.LoadTypes([]byte(text))
		if err != nil {
			if !errors.Is(err, pii.ErrConfig) || types != nil {
				t.Errorf("got %v with %v", types, err)
			}
			return
		}
		for _, typ := range types {
			if _, err := pii.NewCatalog([]pii.Type{typ}); err != nil {
				t.Errorf("loaded what the catalog refuses: %v", err)
			}
		}
	})
}
