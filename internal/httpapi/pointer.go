package httpapi

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// knownPointer cuts a JSON Pointer down to what the contract names: the
// longest part that leads through in's type by its members' names and by
// indexes. A name that a client made up may be anything, a value even.
func knownPointer(in any, p jsontext.Pointer) string {
	t := reflect.TypeOf(in).Elem()
	var b strings.Builder
	for token := range p.Tokens() {
		next, ok := step(t, token)
		if !ok {
			break
		}
		b.WriteString("/" + token)
		t = next
	}
	return b.String()
}

func step(t reflect.Type, token string) (reflect.Type, bool) {
	if t.Kind() == reflect.Slice {
		_, err := strconv.ParseUint(token, 10, 31)
		return t.Elem(), err == nil
	}
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name == token {
			return field.Type, true
		}
	}
	return nil, false
}
