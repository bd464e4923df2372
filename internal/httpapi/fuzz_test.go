package httpapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/httpapi"
)

// Whatever is sent, the answer is 200 or a documented refusal, and what is
// accepted is what the standard decoder reads, too.
func FuzzDecode(f *testing.F) {
	for _, c := range badBodies {
		if len(c.body) < 1000 {
			f.Add(c.body)
		}
	}
	f.Add(operations[0].body)
	f.Add(`{"items":[{"type":"text","value":"null \ud83d\ude00"}]}`)
	h := &harness{vault: &fakeVault{}}
	handler, err := httpapi.New(httpapi.Config{Vault: h.vault, Logger: zerolog.Nop(), Now: time.Now, Random: zeros{}})
	if err != nil {
		f.Fatal(err)
	}
	h.Handler = handler
	f.Fuzz(func(t *testing.T, body string) {
		r := request("POST", "/v1/tokenize", body)
		r.Header.Set("Content-Type", "application/json")
		w := h.do(r)
		switch w.Code {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			checkRefusal(t, w)
		case http.StatusOK:
			checkAccepted(t, body, h.vault.values)
		default:
			t.Fatalf("answered %d", w.Code)
		}
	})
}

// checkRefusal: all text is fixed, so that of one code is always the same but
// for pointer and items.
func checkRefusal(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	p := decodeProblem(t, w)
	for name := range strings.SplitSeq(p.Pointer, "/") {
		if strings.Trim(name, "0123456789") == "" {
			continue
		}
		switch name {
		case "items", "on_error", "type", "value", "subject_id", "reference", "expires_at", "country":
		default:
			t.Fatalf("the pointer has %q", name)
		}
	}
}

func checkAccepted(t *testing.T, body string, values []string) {
	t.Helper()
	var read struct{ Items []struct{ Value *string } }
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&read); err != nil || len(read.Items) != len(values) {
		t.Fatalf("accepted %d items, the standard decoder reads %d (%v)", len(values), len(read.Items), err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatal("something after the document was accepted")
	}
	for i, item := range read.Items {
		if item.Value != nil && *item.Value != values[i] {
			t.Fatalf("item %d is %q, the standard decoder reads %q", i, values[i], *item.Value)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
