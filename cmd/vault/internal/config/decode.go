package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MistakeError is the first thing that is wrong with a configuration. It quotes
// keys, never values.
type MistakeError struct {
	Source       string // the file, or the variable of the environment
	Line, Column int    // from 1; 0: the value of a variable that has one line
	What         string
}

func (m *MistakeError) Error() string {
	if m.Line == 0 {
		return m.Source + ": " + m.What
	}
	return fmt.Sprintf("%s: line %d, column %d: %s", m.Source, m.Line, m.Column, m.What)
}

// value is what one key was given.
type value struct {
	source string
	raw    string   // of the environment: texts and numbers are not YAML there
	node   ast.Node // nil where raw was not parsed
}

// place is where a key's value stands.
type place struct {
	source string
	token  *token.Token
}

func (p place) mistake(what string) error {
	m := &MistakeError{Source: p.source, What: what}
	if p.token != nil && p.token.Position != nil {
		m.Line, m.Column = p.token.Position.Line, p.token.Position.Column
	}
	return m
}

// decoder walks the file and the environment at once.
type decoder struct {
	file   string
	lookup func(string) (string, bool)
	names  []string        // of the environment's variables
	known  map[string]bool // variables that a key stands for
	places map[string]place
}

// field is one key of a mapping. set is called when the key has a value and,
// where it is nested, also when it has none: the environment may give a part.
type field struct {
	key    string
	nested bool
	set    func(path string, v *value) error
}

// variable is a key's name in the environment: regions.0.kms.key_arn is
// VAULT_REGIONS_0_KMS_KEY_ARN.
func variable(path string) string {
	return "VAULT_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// mapping hands every key's value to its field: the environment's before the file's.
func (d *decoder) mapping(path string, v *value, fields []field) error {
	given, err := d.keys(v, fields)
	if err != nil {
		return err
	}
	for _, key := range given.order {
		if err := d.assign(path, fields[slices.IndexFunc(fields, func(f field) bool { return f.key == key })], given.values[key]); err != nil {
			return err
		}
	}
	for _, f := range fields {
		if given.values[f.key] == nil {
			if err := d.assign(path, f, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries is a mapping of the file, in its order.
type entries struct {
	order  []string
	values map[string]*value
}

func (d *decoder) keys(v *value, fields []field) (given entries, err error) {
	given.values = map[string]*value{}
	if v == nil || v.node == nil || v.node.Type() == ast.NullType {
		return given, nil
	}
	m, ok := v.node.(ast.MapNode)
	if !ok {
		return given, v.place().mistake("this must be a mapping of keys")
	}
	for i := m.MapRange(); i.Next(); {
		here := place{v.source, i.Key().GetToken()}
		key, ok := i.Key().(*ast.StringNode)
		switch {
		case !ok || !slices.ContainsFunc(fields, func(f field) bool { return f.key == key.Value }):
			return given, here.mistake(unknownKey(i.Key(), fields))
		case given.values[key.Value] != nil:
			return given, here.mistake(key.Value + " is given twice")
		}
		given.order = append(given.order, key.Value)
		given.values[key.Value] = &value{source: v.source, node: i.Value()}
	}
	return given, nil
}

// unknownKey quotes what looks like a key: a value that slipped out of its
// place shall not be printed.
func unknownKey(n ast.Node, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	there := "there are " + strings.Join(names, ", ")
	key, ok := n.(*ast.StringNode)
	if !ok || len(key.Value) > 40 || strings.Trim(key.Value, "abcdefghijklmnopqrstuvwxyz_-") != "" {
		return "unknown key: " + there
	}
	return "unknown key " + key.Value + ": " + there
}

func (d *decoder) assign(path string, f field, v *value) error {
	path = join(path, f.key)
	name := variable(path)
	d.known[name] = true
	if raw, ok := d.lookup(name); ok {
		v = &value{source: name, raw: raw}
		if f.nested {
			node, err := parse(name, []byte(raw))
			if err != nil {
				return err
			}
			v.node = node
		}
	}
	if v == nil && !f.nested {
		return nil
	}
	if v != nil {
		d.places[path] = v.place()
	}
	return f.set(path, v)
}

// list hands every element to set. The environment may replace an element by
// its number, and add some: at most up to maxElements.
func (d *decoder) list(path string, v *value, f field) error {
	var values []ast.Node
	if v != nil && v.node != nil && v.node.Type() != ast.NullType {
		s, ok := v.node.(*ast.SequenceNode)
		if !ok {
			return v.place().mistake("this must be a list")
		}
		values = s.Values
	}
	for i := 0; i < len(values) || d.anyVariable(join(path, strconv.Itoa(i)), i); i++ {
		f.key = strconv.Itoa(i)
		var element *value
		if i < len(values) {
			element = &value{source: v.source, node: values[i]}
		}
		if err := d.assign(path, f, element); err != nil {
			return err
		}
	}
	return nil
}

// maxElements bounds what the environment may add to a list by number.
const maxElements = 16

// anyVariable reports that the environment has this element, or a part of it.
func (d *decoder) anyVariable(path string, i int) bool {
	name := variable(path)
	if _, ok := d.lookup(name); ok && i < maxElements {
		return true
	}
	return i < maxElements && slices.ContainsFunc(d.names, func(n string) bool { return strings.HasPrefix(n, name+"_") })
}

// mistake is one about the value of a path, or of what is around it.
func (d *decoder) mistake(path, what string) error {
	for p := path; p != ""; p = p[:max(0, strings.LastIndexByte(p, '.'))] {
		if at, ok := d.places[p]; ok {
			return at.mistake(what)
		}
	}
	return &MistakeError{Source: d.file, Line: 1, Column: 1, What: what}
}

// parse reads one YAML document; nil for an empty one.
func parse(source string, text []byte) (ast.Node, error) {
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at := place{source: source}
		if syntax, ok := errors.AsType[yaml.Error](err); ok {
			at.token = syntax.GetToken()
		}
		return nil, at.mistake("this is not YAML")
	}
	switch len(file.Docs) {
	case 0:
		return nil, nil //nolint:nilnil // nothing is there, and that is no error
	case 1:
		return file.Docs[0].Body, nil
	}
	return nil, place{source, file.Docs[1].GetToken()}.mistake("this must be one YAML document")
}

// place is where a node starts. A mapping's own token is its first colon or
// brace: it starts at its first key.
func (v *value) place() place {
	if v.node == nil {
		return place{source: v.source}
	}
	if m, ok := v.node.(ast.MapNode); ok {
		if i := m.MapRange(); i.Next() {
			return place{v.source, i.Key().GetToken()}
		}
	}
	return place{v.source, v.node.GetToken()}
}

// into makes the setter of a scalar.
func into[T any](target *T, read func(text string) (T, error)) func(string, *value) error {
	return func(_ string, v *value) error {
		text := v.raw
		if v.node != nil {
			switch v.node.(type) {
			case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.LiteralNode:
			default:
				return v.place().mistake("this must be one value")
			}
			text = v.node.GetToken().Value
		}
		got, err := read(text)
		if err != nil {
			return v.place().mistake(err.Error())
		}
		*target = got
		return nil
	}
}

func textOf(text string) (string, error) {
	if text == "" || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("this must be a text, not empty, of one line")
	}
	return text, nil
}

func boolOf(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, errors.New("this must be true or false")
	}
	return text == "true", nil
}

func between[T int | int64 | uint64](least, most T) func(string) (T, error) {
	return func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < int64(least) || n > int64(most) {
			return 0, fmt.Errorf("this must be an integer from %d to %d", least, most)
		}
		return T(n), nil
	}
}

func oneOf[T ~string](allowed ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		if !slices.Contains(allowed, T(text)) {
			names := make([]string, len(allowed))
			for i, a := range allowed {
				names[i] = string(a)
			}
			return "", errors.New("this must be " + strings.Join(names, " or "))
		}
		return T(text), nil
	}
}

// durationOf reads what time.ParseDuration does, up to a limit.
func durationOf(least, most time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return 0, fmt.Errorf("this must be a duration from %s to %s, such as 1m30s", least, most)
		}
		return d, nil
	}
}

// addressOf reads a host:port of a server; port 0 takes a free one.
func addressOf(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || strconv.FormatUint(n, 10) != port {
		return "", errors.New("this must be a host:port address such as 0.0.0.0:8443")
	}
	return text, nil
}

// endpointOf reads the URL of a server: no user, no path, no query.
func endpointOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("this must be the URL of a server such as https://vpce-1.kms.eu-west-1.vpce.amazonaws.com")
	}
	return text, nil
}
