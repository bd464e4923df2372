package httpapi

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// knownPointer cuts a JSON Pointer down to what the contract names: the
// longest part that leads through in's type by its members' names and by
// indexes. A name that a client made up may be anything, a value even.
func knownPointer(in any, p jsontext.Pointer) string {
	at := place{of: reflect.TypeOf(in).Elem()}
	var b strings.Builder
	for token := range p.Tokens() {
		next, ok := at.step(token)
		if !ok {
			break
		}
		b.WriteString("/" + token)
		at = next
	}
	return b.String()
}

// place is what is at a known pointer.
type place struct {
	of       reflect.Type
	optional bool // a member that may be absent
}

func (p place) step(token string) (place, bool) {
	if p.of.Kind() == reflect.Slice {
		_, err := strconv.ParseUint(token, 10, 31)
		return place{of: p.of.Elem()}, err == nil
	}
	if p.of.Kind() != reflect.Struct {
		return place{}, false
	}
	for field := range p.of.Fields() {
		if name, options, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name == token {
			return place{of: field.Type, optional: strings.Contains(options, "omitzero")}, true
		}
	}
	return place{}, false
}

// emptyMember finds the first optional string of a body that is there and
// empty, in a body that was decoded into in: the decoder takes it for an
// absent one, and so an expiry for none.
func emptyMember(in any, body []byte) (pointer string, found bool) {
	if !bytes.Contains(body, []byte(`""`)) {
		return "", false
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body)) // reads in place: no copy of a value stays behind
	for {
		if kind := d.PeekKind(); kind != jsontext.KindString {
			if _, err := d.ReadToken(); err != nil {
				return "", false // the end
			}
			continue
		}
		if raw, err := d.ReadValue(); err != nil || string(raw) != `""` {
			continue
		}
		if p := d.StackPointer(); isOptional(in, p) {
			return string(p), true
		}
	}
}

// isOptional tells of a pointer that the contract names.
func isOptional(in any, p jsontext.Pointer) bool {
	at := place{of: reflect.TypeOf(in).Elem()}
	for token := range p.Tokens() {
		at, _ = at.step(token)
	}
	return at.optional
}
