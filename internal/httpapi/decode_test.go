package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"piivault/internal/httpapi"
)

// badBodies are refused by decoding alone. Each holds the canary where a
// careless message would repeat it.
var badBodies = []struct{ name, body, code, pointer string }{
	{"empty", ``, "malformed_json", ""},
	{"text", canary, "malformed_json", ""},
	{"cut off", `{"items":[{"type":"text","value":"` + canary, "malformed_json", "/items/0/value"},
	{"single quotes", `{'items':'` + canary + `'}`, "malformed_json", ""},
	{"trailing comma", `{"items":[{"type":"text","value":"` + canary + `"},]}`, "malformed_json", "/items"},
	{"two documents", `{"items":[{"type":"text","value":"` + canary + `"}]} {}`, "malformed_json", ""},
	{"trailing text", `{"items":[{"type":"text","value":"x"}]}` + canary, "malformed_json", ""},
	{"comment", `{"items":[{"type":"text","value":"x"}]}/*` + canary + `*/`, "malformed_json", ""},
	{"byte order mark", "\ufeff" + `{"items":[]}`, "malformed_json", ""},
	{"bad escape", `{"items":[{"type":"text","value":"\x` + canary + `"}]}`, "malformed_json", "/items/0/value"},
	{"bad unicode escape", `{"items":[{"type":"text","value":"\u00g0` + canary + `"}]}`, "malformed_json", "/items/0/value"},
	{"raw control character", `{"items":[{"type":"text","value":"` + "\n" + canary + `"}]}`, "malformed_json", "/items/0/value"},
	{"NaN", `{"items":[{"type":"text","value":NaN}],"` + canary + `":1}`, "malformed_json", "/items/0/value"},
	{"array", `["` + canary + `"]`, "wrong_type", ""},
	{"string", `"` + canary + `"`, "wrong_type", ""},
	{"null document", `null`, "wrong_type", ""},
	{"items a string", `{"items":"` + canary + `"}`, "wrong_type", "/items"},
	{"items an object", `{"items":{"` + canary + `":1}}`, "wrong_type", "/items"},
	{"items null", `{"items":null}`, "wrong_type", "/items"},
	{"item a string", `{"items":["` + canary + `"]}`, "wrong_type", "/items/0"},
	{"item null", `{"items":[null]}`, "wrong_type", ""},
	{"value a number", `{"items":[{"type":"text","value":4242424242424242}]}`, "wrong_type", "/items/0/value"},
	{"value an object", `{"items":[{"type":"text","value":{"` + canary + `":"` + canary + `"}}]}`, "wrong_type", "/items/0/value"},
	{"value null", `{"items":[{"type":"text","value":null}]}`, "wrong_type", "/items/0/value"},
	{"type null", `{"items":[{"type":null,"value":"` + canary + `"}]}`, "wrong_type", ""},
	{"type a bool", `{"items":[{"type":true,"value":"` + canary + `"}]}`, "wrong_type", "/items/0/type"},
	{"expires_at empty", `{"items":[{"type":"text","value":"` + canary + `","expires_at":""}]}`, "empty_string", "/items/0/expires_at"},
	{"on_error empty, by escape", "{\"on\\u005ferror\" : \"\" ,\"items\":[{\"type\":\"text\",\"value\":\"" + canary + "\"}]}", "empty_string", "/on_error"},
	{"country empty after a required one", `{"items":[{"type":"","value":""},{"country":"","type":"text","value":"` + canary + `"}]}`, "empty_string", "/items/1/country"},
	{"on_error a number", `{"on_error":1}`, "wrong_type", "/on_error"},
	{"unknown member", `{"` + canary + `":1}`, "unknown_field", ""},
	{"unknown member of an item", `{"items":[{"type":"text","` + canary + `":"x"}]}`, "unknown_field", "/items/0"},
	{"another case", `{"Items":[]}`, "unknown_field", ""},
	{"a budget", `{"items":[{"type":"text","value":"x"}],"budget":"b"}`, "unknown_field", ""},
	{"deep in an unknown member", `{"` + canary + `":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "unknown_field", ""},
	{"repeated member", `{"items":[{"type":"text","value":"x","value":"` + canary + `"}]}`, "duplicate_key", "/items/0/value"},
	{"repeated by escape", `{"items":[{"type":"text","value":"x","v\u0061lue":"` + canary + `"}]}`, "duplicate_key", "/items/0/value"},
	{"repeated items", `{"items":[],"items":[]}`, "duplicate_key", "/items"},
	{"invalid UTF-8", `{"items":[{"type":"text","value":"` + "\xff" + canary + `"}]}`, "invalid_utf8", "/items/0/value"},
	{"invalid UTF-8 in a name", `{"` + "\xc3" + canary + `":1}`, "invalid_utf8", ""},
	{"encoded surrogate", `{"items":[{"type":"text","value":"` + "\xed\xa0\x80" + canary + `"}]}`, "invalid_utf8", "/items/0/value"},
	{"high surrogate", `{"items":[{"type":"text","value":"\ud800` + canary + `"}]}`, "lone_surrogate", "/items/0/value"},
	{"low surrogate", `{"items":[{"type":"text","value":"` + canary + `\udc00"}]}`, "lone_surrogate", "/items/0/value"},
	{"two high surrogates", `{"items":[{"type":"text","value":"\ud800\ud800` + canary + `"}]}`, "lone_surrogate", "/items/0/value"},
	{"surrogate in a name", `{"\ud800":"` + canary + `"}`, "lone_surrogate", ""},
	{"deep", `{"items":` + strings.Repeat("[", 100_000) + `"` + canary + `"`, "too_deep", "/items/0"},
	{"deep objects", strings.Repeat(`{"items":[`, 17) + canary, "too_deep", "/items/0"},
}

func TestMalformedBodies(t *testing.T) {
	for _, c := range badBodies {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			r := request("POST", "/v1/tokenize", c.body)
			r.Header.Set("Content-Type", "application/json")
			w := h.do(r)
			p := decodeProblem(t, w)
			if w.Code != http.StatusBadRequest || p.Code != c.code || p.Pointer != c.pointer {
				t.Errorf("answered %d %q at %q, want 400 %q at %q", w.Code, p.Code, p.Pointer, c.code, c.pointer)
			}
			unrepeated(t, h, w.Body.String())
			if h.vault.call.RequestID != "" {
				t.Error("the domain was called")
			}
		})
	}
}

func unrepeated(t *testing.T, h *harness, answer string) {
	t.Helper()
	for _, sent := range []string{canary, "4242424242424242"} {
		if strings.Contains(answer, sent) || strings.Contains(h.log.String(), sent) {
			t.Errorf("what was sent was repeated:\n%s\n%s", answer, h.log)
		}
	}
}

// All that decoding refuses, it refuses for every operation with a body.
func TestMalformedBodiesOfEveryOperation(t *testing.T) {
	for _, op := range operations {
		if op.body == "" {
			continue
		}
		h := newHarness(t)
		h.refused(t, request("POST", op.path, `{"`+canary+`":1}`), http.StatusBadRequest, "unknown_field")
		h.refused(t, request("POST", op.path, `["`+canary+`"]`), http.StatusBadRequest, "wrong_type")
		h.refused(t, request("POST", op.path, op.body+canary), http.StatusBadRequest, "malformed_json")
		r := request("POST", op.path, op.body)
		r.Header.Set("Content-Type", "text/plain")
		h.refused(t, r, http.StatusUnsupportedMediaType, "unsupported_media_type")
		unrepeated(t, h, "")
	}
}

// Strings that look like what is refused, and are not.
func TestUnusualGoodBodies(t *testing.T) {
	for sent, want := range map[string]string{
		`null`: "null", `\\ud800`: `\ud800`, `\ud83d\ude00`: "😀", `[[[[[[[[[[[[[[[[[[`: "[[[[[[[[[[[[[[[[[[",
		`\"null\"`: `"null"`, `\u0000`: "\x00", `{\"a\":null}`: `{"a":null}`, ``: "",
	} {
		h := newHarness(t)
		r := request("POST", "/v1/tokenize", "\t{ \"items\" : [ {\"type\":\"text\",\n\"value\":\""+sent+"\",\"reference\":\"null\"} ] } ")
		handler, err := httpapi.New(configOf(h))
		if err != nil {
			t.Fatal(err)
		}
		(&harness{Handler: handler}).do(r) // the contract wants a character at least, the domain says so
		if len(h.vault.values) != 1 || h.vault.values[0] != want {
			t.Errorf("%s arrived as %q", sent, h.vault.values)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	for sent, ok := range map[string]bool{
		"application/json": true, "application/json; charset=utf-8": true, "Application/JSON;charset=\"UTF-8\"": true,
		"": false, "text/json": false, "application/jsonl": false, "application/json; charset=latin1": false, "application/json;": true,
		"application/x-www-form-urlencoded": false, "application/json, application/json": false, ";": false,
	} {
		h := newHarness(t)
		r := request("POST", "/v1/inspect", operations[2].body)
		r.Header.Set("Content-Type", sent)
		if w := h.do(r); (w.Code == http.StatusOK) != ok || (!ok && w.Code != http.StatusUnsupportedMediaType) {
			t.Errorf("%q answered %d", sent, w.Code)
		}
	}
	h := newHarness(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, operations[2].body)
	_ = z.Close()
	r := request("POST", "/v1/inspect", zipped.String())
	r.Header.Set("Content-Encoding", "gzip")
	h.refused(t, r, http.StatusUnsupportedMediaType, "unsupported_media_type")
}

func TestSizes(t *testing.T) {
	items := func(item string, n int) string { return `{"items":[` + strings.Repeat(item+",", n-1) + item + `]` }
	value, tok := `{"type":"text","value":"x"}`, `{"token":"x"}`
	for name, c := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"most values":        {"/v1/tokenize", items(value, 500) + "}", 200, ""},
		"a value too many":   {"/v1/tokenize", items(value, 501) + "}", 413, "batch_too_large"},
		"far too many":       {"/v1/tokenize", items("{}", 1_000_000) + "}", 413, "batch_too_large"},
		"no values":          {"/v1/tokenize", `{"items":[]}`, 422, "empty_batch"},
		"no items":           {"/v1/tokenize", `{}`, 422, "empty_batch"},
		"no document":        {"/v1/detokenize", `{}`, 422, "empty_batch"},
		"most tokens":        {"/v1/detokenize", items(tok, 100) + `,"purpose":"p"}`, 200, ""},
		"a token too many":   {"/v1/detokenize", items(tok, 101) + `,"purpose":"p"}`, 413, "batch_too_large"},
		"inspect too many":   {"/v1/inspect", items(tok, 101) + `}`, 413, "batch_too_large"},
		"erase too many":     {"/v1/erase", items(tok, 101) + `}`, 413, "batch_too_large"},
		"inspect none":       {"/v1/inspect", `{"items":[]}`, 422, "empty_batch"},
		"largest body":       {"/v1/tokenize", items(value, 1) + strings.Repeat(" ", 8<<20-len(items(value, 1))-1) + "}", 200, ""},
		"body too large":     {"/v1/tokenize", items(value, 1) + strings.Repeat(" ", 8<<20-len(items(value, 1))) + "}", 413, "body_too_large"},
		"tokens' largest":    {"/v1/inspect", items(tok, 1) + strings.Repeat(" ", 256<<10-len(items(tok, 1))-1) + "}", 200, ""},
		"tokens' too large":  {"/v1/inspect", items(tok, 1) + strings.Repeat(" ", 256<<10-len(items(tok, 1))) + "}", 413, "body_too_large"},
		"audit's too large":  {"/v1/audit/query", strings.Repeat(" ", 256<<10+1), 413, "body_too_large"},
		"neither to erase":   {"/v1/erase", `{}`, 422, "invalid_erase"},
		"both to erase":      {"/v1/erase", `{"items":[{"token":"x"}],"subject_id":"s"}`, 422, "invalid_erase"},
		"no token to erase":  {"/v1/erase", `{"items":[]}`, 422, "invalid_erase"},
		"subject to erase":   {"/v1/erase", `{"items":[],"subject_id":"s"}`, 200, ""}, // as generated Java sends it
		"limit of zero":      {"/v1/audit/query", `{"limit":0}`, 422, "invalid_limit"},
		"unknown on_error":   {"/v1/tokenize", items(value, 1) + `,"on_error":"` + canary + `"}`, 422, "invalid_on_error"},
		"longest reference":  {"/v1/tokenize", `{"items":[{"type":"t","value":"x","reference":"` + strings.Repeat("é", 256) + `"}]}`, 200, ""},
		"reference too long": {"/v1/tokenize", `{"items":[{"type":"t","value":"x","reference":"` + strings.Repeat("é", 257) + `"}],"on_error":"continue"}`, 422, "invalid_reference"},
	} {
		for _, announced := range []bool{true, false} {
			h := newHarness(t)
			r := request("POST", c.path, c.body)
			if !announced {
				r.ContentLength = -1
			}
			w := h.do(r)
			if w.Code != c.status || (c.code != "" && decodeProblem(t, w).Code != c.code) {
				t.Errorf("%s (announced: %v): answered %d %.200s", name, announced, w.Code, w.Body)
			}
			if w.Code != http.StatusOK {
				unrepeated(t, h, w.Body.String())
			}
		}
	}
}

func TestLoweredLimits(t *testing.T) {
	h := newHarness(t, func(c *httpapi.Config) { c.Limits.TokenizeItems, c.Limits.BodyBytes = 1, 30 })
	h.refused(t, request("POST", "/v1/tokenize", operations[0].body), http.StatusRequestEntityTooLarge, "batch_too_large")
	h.refused(t, request("POST", "/v1/inspect", operations[2].body), http.StatusRequestEntityTooLarge, "body_too_large")
}

func TestBodiesThatBreakOff(t *testing.T) {
	h := newHarness(t)
	r := request("POST", "/v1/inspect", operations[2].body)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"items":[`), brokenReader{}))
	handler, err := httpapi.New(configOf(h))
	if err != nil {
		t.Fatal(err)
	}
	(&harness{Handler: handler}).refused(t, r, http.StatusBadRequest, "unreadable_body")
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New(canary) }

func TestIdempotencyKeys(t *testing.T) {
	for sent, ok := range map[string]bool{
		strings.Repeat("a", 22): true, strings.Repeat("~", 200): true, "AZaz09-._~AZaz09-._~AZ": true,
		strings.Repeat("a", 21): false, strings.Repeat("a", 201): false, "": false,
		canary + "+/+/+/+/+/+/+/+/+/+/": false, canary + " aaaaaaaaaaaaaaaaaaaaa": false, canary + "éééééééééééééééé": false, canary + "%41%41%41%41%41%41": false,
	} {
		h := newHarness(t)
		r := request("POST", "/v1/tokenize", operations[0].body)
		r.Header.Set("Idempotency-Key", sent)
		w := h.do(r)
		if (w.Code == http.StatusOK) != ok || (!ok && decodeProblem(t, w).Code != "invalid_idempotency_key") {
			t.Errorf("%q answered %d", sent, w.Code)
		}
		unrepeated(t, h, w.Body.String())
	}
	h := newHarness(t)
	r := request("POST", "/v1/tokenize", operations[0].body)
	r.Header["Idempotency-Key"] = []string{strings.Repeat("a", 32), strings.Repeat("b", 32)}
	h.refused(t, r, http.StatusBadRequest, "invalid_idempotency_key")
}

func TestCursorIsSentOnce(t *testing.T) {
	h := newHarness(t)
	h.refused(t, request("GET", "/v1/coverage?cursor="+canary+"&cursor=b", ""), http.StatusUnprocessableEntity, "invalid_cursor")
}
