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
	switch t.Kind() {
	case reflect.Slice:
		_, err := strconv.ParseUint(token, 10, 31)
		return t.Elem(), err == nil
	case reflect.Struct:
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name == token {
				return t.Field(i).Type, true
			}
		}
	}
	return nil, false
}
