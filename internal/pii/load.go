package pii

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// LoadTypes reads the `types:` list of a config: a YAML document that is a
// list (docs/design/format.md §4 shows one). What is left out is: token random,
// bound when the token is random, data_key per_field, no ttl, the kind's
// max_bytes. Unknown and repeated keys, and whatever NewCatalog would refuse
// of a type by itself, are errors that wrap ErrConfig and give line and
// column; they quote keys, never values.
func LoadTypes(text []byte) ([]Type, error) {
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			return nil, at(syntax.GetToken(), "this is not YAML")
		}
		return nil, at(nil, "this is not YAML")
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, at(nil, "types is one list")
	}
	return DecodeTypes(file.Docs[0].Body)
}

// DecodeTypes is LoadTypes for a list that was parsed as part of a larger
// document: lines and columns are those of that document.
func DecodeTypes(list ast.Node) ([]Type, error) {
	items, ok := list.(*ast.SequenceNode)
	if !ok {
		return nil, at(tokenOf(list), "types is a list")
	}
	types := make([]Type, 0, len(items.Values))
	for _, item := range items.Values {
		t, err := decodeType(item)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return types, nil
}

func decodeType(n ast.Node) (Type, error) {
	var t Type
	bound := (*bool)(nil)
	searchable := false
	err := eachKey(n, map[string]setter{
		"name":            into(&t.Name, textOf),
		"kind":            into(&t.Kind, textOf),
		"token":           into((*string)(&t.Token), textOf),
		"bound":           func(v ast.Node) error { bound = new(bool); return into(bound, boolOf)(v) },
		"searchable":      into(&searchable, boolOf),
		"data_key":        func(v ast.Node) error { return decodeDataKey(v, &t.DataKey) },
		"ttl":             into(&t.TTL, durationOf),
		"max_bytes":       into(&t.MaxBytes, intOf),
		"accept_guessing": into(&t.AcceptGuessing, boolOf),
	})
	if err != nil {
		return Type{}, err
	}
	if searchable {
		return Type{}, at(tokenOf(n), "searchable types are not in this version")
	}
	t.Bound = t.Token == "" || t.Token == Random
	if bound != nil {
		t.Bound = *bound
	}
	if err := t.complete(); err != nil {
		return Type{}, at(tokenOf(n), strings.TrimSpace(t.label()+" "+err.Error()))
	}
	return t, nil
}

func decodeDataKey(n ast.Node, p *DataKeyPolicy) error {
	if text, err := textOf(n); err == nil && text == "per_field" {
		return nil
	}
	return eachKey(n, map[string]setter{"reuse": func(v ast.Node) error {
		p.Reuse = true
		return eachKey(v, map[string]setter{
			"max_messages": into(&p.MaxMessages, intOf),
			"max_bytes":    func(v ast.Node) error { n := 0; err := into(&n, intOf)(v); p.MaxBytes = int64(n); return err },
			"max_age":      into(&p.MaxAge, durationOf),
		})
	}})
}

type setter func(ast.Node) error

// into makes a setter of a reader of one kind of scalar.
func into[T any](field *T, read func(ast.Node) (T, error)) setter {
	return func(n ast.Node) (err error) {
		if *field, err = read(n); err != nil {
			return at(tokenOf(n), err.Error())
		}
		return nil
	}
}

// eachKey hands every value of a mapping to its key's setter.
func eachKey(n ast.Node, setters map[string]setter) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return at(tokenOf(n), "this must be a mapping")
	}
	seen := make(map[string]bool, len(setters))
	for i := m.MapRange(); i.Next(); {
		key, err := textOf(i.Key())
		set := setters[key]
		switch {
		case err != nil || set == nil:
			return at(tokenOf(i.Key()), unknownKey(key))
		case seen[key]:
			return at(tokenOf(i.Key()), key+" is given twice")
		}
		seen[key] = true
		if err := set(i.Value()); err != nil {
			return err
		}
	}
	return nil
}

// unknownKey quotes what looks like a key: a value that slipped out of its
// place shall not be printed.
func unknownKey(key string) string {
	if !validName(key) {
		return "unknown key"
	}
	return "unknown key " + key
}

func textOf(n ast.Node) (string, error) {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value, nil
	}
	return "", errors.New("this must be a text")
}

func boolOf(n ast.Node) (bool, error) {
	if b, ok := n.(*ast.BoolNode); ok {
		return b.Value, nil
	}
	return false, errors.New("this must be true or false")
}

// intOf reads an integer above zero: no limit here is zero.
func intOf(n ast.Node) (int, error) {
	if i, ok := n.(*ast.IntegerNode); ok {
		if v, err := strconv.ParseInt(i.Token.Value, 10, 32); err == nil && v > 0 {
			return int(v), nil
		}
	}
	return 0, errors.New("this must be an integer from 1 to 2147483647")
}

// durationOf reads what time.ParseDuration does, or whole days: 30d.
func durationOf(n ast.Node) (time.Duration, error) {
	text, _ := textOf(n)
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var count uint64
		count, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(count) * 24 * time.Hour // 16 bits of days are 179 years
	}
	if err != nil || d <= 0 {
		return 0, errors.New("this must be a duration above zero such as 720h or 30d")
	}
	return d, nil
}

// at makes the error for a place in a config.
func at(tk *token.Token, message string) error {
	if tk == nil || tk.Position == nil {
		return fmt.Errorf("%w: %s", ErrConfig, message)
	}
	return fmt.Errorf("%w: line %d, column %d: %s", ErrConfig, tk.Position.Line, tk.Position.Column, message)
}

// tokenOf is where a node starts, nil for none. A mapping's own token is its
// first colon or brace: it starts at its first key.
func tokenOf(n ast.Node) *token.Token {
	if n == nil {
		return nil
	}
	if m, ok := n.(ast.MapNode); ok {
		if i := m.MapRange(); i.Next() {
			return i.Key().GetToken()
		}
	}
	return n.GetToken()
}
