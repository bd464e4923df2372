package httpapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"piivault/api"
)

// G4: a buffer that goes back holds nothing of what it held.
func TestBuffersAreCleared(t *testing.T) {
	var pool buffers
	b := pool.get(10)
	b.WriteString("canary-7f3a9c")
	held := b.Bytes()
	pool.put(b)
	if !bytes.Equal(held, make([]byte, len(held))) {
		t.Errorf("the buffer still holds %q", held)
	}
}

// keeper remembers that it was wiped.
type keeper struct {
	Items api.Batch[api.TokenizeItem] `json:"items"`
	wiped bool
}

func (k *keeper) Wipe() { k.wiped = true }

// G4: values that were read before a body turned out to be bad are wiped.
func TestBadBodiesAreWiped(t *testing.T) {
	s := &server{}
	s.Limits.setDefaults()
	for body, wiped := range map[string]bool{`{"items":[{"value":"x"}]}`: false, `{"items":[{"value":"x"},{]}`: true} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		in := new(keeper)
		err := s.read(r, 100, in)
		if (err != nil) != wiped || in.wiped != wiped || in.Items[0].Value.Len() != 1 {
			t.Errorf("%s: %v, wiped: %v", body, err, in.wiped)
		}
		if n := s.reading.Load(); n != 0 {
			t.Errorf("%d bytes are still reserved", n)
		}
	}
}

func TestPointersNameOnlyWhatTheContractNames(t *testing.T) {
	for sent, want := range map[jsontext.Pointer]string{
		"": "", "/items": "/items", "/items/3/value": "/items/3/value", "/items/3/value/canary": "/items/3/value",
		"/canary": "", "/items/canary": "/items", "/items/-1": "/items", "/items/99999999999999": "/items", "/items/0/canary/0": "/items/0", "/Items": "",
	} {
		if got := knownPointer(&api.TokenizeRequest{}, sent); got != want {
			t.Errorf("%q became %q, want %q", sent, got, want)
		}
	}
}

// The scanner agrees with the encoder: what is encoded from text has no lone
// surrogate and no null, and its depth is what was built.
func TestScanOfGoodJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Filter(utf8.ValidString).Draw(t, "text")
		depth := rapid.IntRange(1, 40).Draw(t, "depth")
		quoted, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		var escaped []byte
		for _, r := range text {
			if r > 0xffff {
				r -= 0x10000
				escaped = append(escaped, hex4(0xd800+r>>10)+hex4(0xdc00+r&0x3ff)...)
			} else {
				escaped = append(escaped, hex4(r)...)
			}
		}
		for _, s := range []string{string(quoted), `"` + string(escaped) + `"`} {
			found := scan([]byte(strings.Repeat("[", depth) + s + strings.Repeat("]", depth)))
			if found != (scanned{depth: depth}) {
				t.Fatalf("%s: %+v, built %d deep", s, found, depth)
			}
		}
	})
}

func hex4(r rune) string {
	const digits = "0123456789abcdef"
	return `\u` + string([]byte{digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15]})
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"a":["\ud800",null]}`))
	f.Add([]byte(`"\`))
	f.Add([]byte(`"\u12`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if found := scan(body); found.depth > len(body) {
			t.Errorf("depth %d of %d bytes", found.depth, len(body))
		}
	})
}

// A body of unknown size leaves nothing of itself in what its buffer grew out of.
func TestGrownBuffersAreWiped(t *testing.T) {
	var pool buffers
	b := pool.get(0)
	first := b.AvailableBuffer()[:b.Available()]
	sent := strings.Repeat("ann@example.com ", 10_000)
	if err := b.fill(strings.NewReader(sent), 1<<20); err != nil || b.String() != sent {
		t.Fatalf("%d bytes of %d: %v", b.Len(), len(sent), err)
	}
	if len(first) == 0 || len(first) > len(sent)/2 || bytes.ContainsRune(first, 'a') {
		t.Errorf("%d bytes of the body are where it began", len(first))
	}
	whole := b.Bytes()
	pool.put(b)
	if bytes.ContainsRune(whole, 'a') {
		t.Error("the body is in the pool")
	}
}
