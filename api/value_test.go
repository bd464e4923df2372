package api_test

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"piivault/api"
	"piivault/internal/secret"
)

const canary = "canary-7f3a9c"

// Any text survives the way through a request and an answer, however the
// encoder escapes it.
func TestValuesSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		sent, err := stdjson.Marshal(map[string]any{"items": []any{map[string]string{"type": "t", "value": text}}})
		if err != nil {
			t.Skip("not valid UTF-8")
		}
		var in api.TokenizeRequest
		if err := json.Unmarshal(sent, &in, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		if got := string(in.Items[0].Value.Bytes()); got != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("%q arrived as %q", text, got)
		}
		var answer bytes.Buffer
		out := api.DetokenizeResponse{Items: []api.DetokenizedItem{{Value: in.Items[0].Value}}}
		if err := json.MarshalWrite(&answer, &out); err != nil {
			t.Fatal(err)
		}
		var back struct{ Items []struct{ Value string } }
		if err := stdjson.Unmarshal(answer.Bytes(), &back); err != nil || back.Items[0].Value != string(in.Items[0].Value.Bytes()) {
			t.Fatalf("%q left as %s (%v)", text, answer.Bytes(), err)
		}
	})
}

// G4: an item prints no value, and the standard encoder shows none.
func TestValuesAreRedactedInPrint(t *testing.T) {
	item := api.TokenizeItem{Type: "t", Value: api.Value{Plaintext: secret.NewPlaintext([]byte(canary))}}
	encoded, err := stdjson.Marshal(item)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(item), fmt.Sprintf("%+v %#v", item, &item), string(encoded)} {
		if strings.Contains(printed, canary) || !strings.Contains(printed, secret.Redacted) {
			t.Errorf("printed as %s", printed)
		}
	}
}

func TestWipe(t *testing.T) {
	b := []byte(canary)
	in := api.TokenizeRequest{Items: api.Batch[api.TokenizeItem]{{Value: api.Value{Plaintext: secret.NewPlaintext(b)}}}}
	in.Wipe()
	c := []byte(canary)
	out := api.DetokenizeResponse{Items: []api.DetokenizedItem{{Value: api.Value{Plaintext: secret.NewPlaintext(c)}}}}
	if hint := out.SizeHint(); hint < len(canary) {
		t.Errorf("the size hint is %d", hint)
	}
	out.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) || !bytes.Equal(c, make([]byte, len(c))) {
		t.Error("a wiped value is still there")
	}
}

func TestBatchStopsReading(t *testing.T) {
	body := `{"items":[` + strings.Repeat("{},", 999_999) + `{}]}`
	var in api.TokenizeRequest
	err := json.Unmarshal([]byte(body), &in)
	if !errors.Is(err, api.ErrTooMany) || len(in.Items) != api.MaxBatch {
		t.Errorf("read %d items: %v", len(in.Items), err)
	}
	var some api.InspectRequest
	if err := json.Unmarshal([]byte(`{"items":[{"token":"a"},{"token":"b"}]}`), &some); err != nil || len(some.Items) != 2 || some.Items[1].Token != "b" {
		t.Errorf("%+v: %v", some, err)
	}
	for _, bad := range []string{`{"items":[`, `{"items":[{"token":"a"}`, `{"items":[{"token":"a"},`, `{"items":[,]}`, `{"items":{}}`, `{"items":null}`, `{"items":[1]}`} {
		if err := json.Unmarshal([]byte(bad), &some); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	// The decoder's options reach the items.
	if err := json.Unmarshal([]byte(`{"items":[{"token":"a","x":1}]}`), &some, json.RejectUnknownMembers(true)); !errors.Is(err, json.ErrUnknownName) {
		t.Errorf("an unknown member of an item: %v", err)
	}
}
