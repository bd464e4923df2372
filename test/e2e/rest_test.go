package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"piivault/client"
	"piivault/test/scan"
)

// sent collects all that must be found nowhere.
type sent struct {
	t       *testing.T
	needles []scan.Needle
}

func (s *sent) add(name, value string) string {
	if len(value) >= scan.MinNeedle {
		s.needles = append(s.needles, scan.Needle{Name: name, Value: []byte(value)})
	}
	return value
}

// typedValues are values of every type, with the forms in which they may be stored.
func (s *sent) typedValues() []client.TokenizeItem {
	items := []client.TokenizeItem{
		item("name", "Zaphira Quellenmeister"), item("email", "Zaphira.Q+tag@Quellenmeister.EXAMPLE"),
		item("phone", "(201) 555-0173"), item("address", "17 Quellen Mews\nUpper Zaphiraton"), item("date_of_birth", "1943-05-14"),
		item("card_number", "4000 8237 6858 6098"), item("ip", "a932:58ef:7777:682c:5796:a671:482c:590e"), item("ssn", "778 35 0827"),
		item("iban", "ie29 aibk 9311 5212 3456 78"), item("national_id", "529.982.247-25"),
		item("text", "a note about Zaphira\nin two lines"), item("json", `{"zaphira": ["quellenmeister", 4711.25]}`),
		item("bytes", base64.StdEncoding.EncodeToString([]byte("\x00zaphira\xff bytes \x80 quellenmeister"))),
		item("customer_email", "zaphira@deterministic.example"),
	}
	items[2].Country, items[9].Country = "US", "BR"
	for _, it := range items {
		s.add(it.Type, it.Value)
	}
	s.add("bytes, decoded", "\x00zaphira\xff bytes \x80 quellenmeister")
	s.add("ssn, stored", "778-35-0827")
	s.add("iban, stored", "IE29AIBK93115212345678")
	s.add("card, stored", "4000823768586098")
	s.add("phone, stored", "+12015550173")
	s.add("json, a member", "quellenmeister")
	return items
}

// raw sends a request that the contract may not allow, and checks that a
// refusal repeats nothing of what was sent.
func (s *sent) raw(p *process, method, path, body string, header map[string]string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, p.addrs[regionA]+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.key())
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		s.t.Errorf("%s %.40s: status %d", method, body, resp.StatusCode)
	}
	p.contract.Check(r, []byte(body), resp.StatusCode, resp.Header, answer)
	s.wantNone("an error's body", string(answer))
	s.wantNone("an error's headers", fmt.Sprint(resp.Header))
}

// wantNone asserts that a text holds none of the needles.
func (s *sent) wantNone(what, text string) {
	s.t.Helper()
	scanner, err := scan.New(s.needles)
	if err != nil {
		s.t.Fatal(err)
	}
	report, err := scanner.Reader(what, strings.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, hit := range report.Hits {
		s.t.Errorf("%s holds %s as %s", what, hit.Needle, hit.Encoding)
	}
}

// mistakes provokes every refusal that there is a way to.
func (s *sent) mistakes(p *process) {
	s.t.Helper()
	canary := func(name string) string { return s.add(name, "Canary"+strings.ReplaceAll(name, " ", "")+"Zaphira") }
	tokenize := func(member, value string) {
		body, err := json.Marshal(map[string]any{"items": []map[string]any{{"type": "phone", "value": s.add("a phone", "(201) 555-0199"), member: value}}})
		if err != nil {
			s.t.Fatal(err)
		}
		s.raw(p, http.MethodPost, "/v1/tokenize", string(body), nil)
	}
	for typ, bad := range map[string]string{
		"email": canary("bad email"), "phone": canary("bad phone"), "card_number": canary("bad card"), "iban": canary("bad iban"),
		"ip": canary("bad ip"), "ssn": canary("bad ssn"), "date_of_birth": canary("bad date"), "json": "{" + canary("bad json"),
		"bytes": canary("bad bytes") + "!", "text": canary("bad text") + "\x00", "national_id": canary("bad id") + "\u007f", canary("a type"): "x",
	} {
		body, err := json.Marshal(client.TokenizeRequest{Items: []client.TokenizeItem{{Type: typ, Value: bad, Country: "US"}}})
		if err != nil {
			s.t.Fatal(err)
		}
		s.raw(p, http.MethodPost, "/v1/tokenize", string(body), nil)
	}
	tokenize("country", canary("a country"))
	tokenize("expires_at", canary("a time"))
	tokenize(canary("a member"), "x")
	tokenize("subject_id", canary("a subject")+"\x01")
	for _, body := range []string{
		`{"items":[{"type":"email","value":"` + canary("cut") + `"`, canary("not json"), `["` + canary("array") + `"]`,
		`{"items":[{"type":"email","value":12` + canary("number") + `}]}`, `{"items":[{"value":"` + canary("first") + `","value":"` + canary("second") + `","type":"email"}]}`,
		`{"items":[{"type":"text","value":"` + canary("bad utf8") + "\xff" + `"}]}`, `{"items":[{"type":"text","value":"` + canary("surrogate") + `\ud800"}]}`,
		`{"items":[{"type":"text","value":"` + strings.Repeat(canary("too long"), 8000) + `"}]}`,
	} {
		s.raw(p, http.MethodPost, "/v1/tokenize", body, nil)
	}
	s.raw(p, http.MethodPost, "/v1/tokenize", `{"items":[{"type":"text","value":"`+strings.Repeat(canary("too large"), 1<<20)+`"}]}`, nil)
	one := `{"items":[{"type":"email","value":"` + canary("refused") + `@example.com"}]}`
	s.raw(p, http.MethodPost, "/v1/tokenize", one, map[string]string{"Idempotency-Key": canary("short key")})
	s.raw(p, http.MethodPost, "/v1/tokenize", one, map[string]string{"Authorization": "Bearer " + canary("credential")})
	s.raw(p, http.MethodPost, "/v1/tokenize", one, map[string]string{"Authorization": "Bearer pvk_0123456789abcdef_" + canary("forged key")})
	s.raw(p, http.MethodPost, "/v1/tokenize", one, map[string]string{"Content-Type": canary("media") + "/json"})
	s.raw(p, http.MethodPost, "/v1/"+canary("path"), one, nil)
	s.raw(p, http.MethodPut, "/v1/tokenize?"+canary("query")+"=1", one, map[string]string{"X-Extra": canary("header")})
	unknown := "dev_email_euw1_" + canary("unknown token")
	for _, token := range []string{unknown, canary("no token")} {
		s.raw(p, http.MethodPost, "/v1/detokenize", `{"purpose":"e2e","items":[{"token":"`+token+`"}]}`, nil)
		s.raw(p, http.MethodPost, "/v1/inspect", `{"items":[{"token":"`+token+`"}],"`+canary("more")+`":1}`, nil)
		s.raw(p, http.MethodPost, "/v1/erase", `{"items":[{"token":"`+token+`"}],"subject_id":"both"}`, nil)
	}
	s.raw(p, http.MethodPost, "/v1/detokenize", `{"purpose":"","items":[{"token":"`+unknown+`","reveal":"`+canary("reveal")+`"}]}`, nil)
	s.raw(p, http.MethodPost, "/v1/audit/query", `{"cursor":"`+canary("cursor")+`"}`, nil)
	s.raw(p, http.MethodPost, "/v1/keys", `{"name":"x","roles":["`+canary("role")+`"]}`, nil)
	s.raw(p, http.MethodPost, "/v1/keys/revoke", `{"id":"`+canary("key id")+`"}`, nil)
}

// traffic uses every operation that values and tokens pass through.
func (s *sent) traffic(p *process) {
	s.t.Helper()
	items := s.typedValues()
	idempotency := s.add("idempotency key", client.NewIdempotencyKey())
	for i := range items {
		items[i].SubjectID = s.add("subject id", fmt.Sprintf("subject-Zaphira-%04d", i))
		items[i].Reference = s.add("reference", fmt.Sprintf("reference-Zaphira-%04d", i))
	}
	a, b := p.client(regionA), p.client(regionB)
	for range 2 {
		answer, err := a.Tokenize(s.t.Context(), idempotency, client.TokenizeRequest{Items: items})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, it := range answer.Items {
			s.token(a, b, it.Token)
		}
	}
	key, err := a.CreateKey(s.t.Context(), client.CreateKeyRequest{Name: "a reader", Roles: []string{"reader"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.add("another key", key.Key)
	if _, err := a.EraseSubject(s.t.Context(), items[0].SubjectID); err != nil {
		s.t.Fatal(err)
	}
	if _, err := a.QueryAudit(s.t.Context(), client.AuditQueryRequest{SubjectID: items[1].SubjectID}); err != nil {
		s.t.Fatal(err)
	}
}

// token uses one in every way but erasing it.
func (s *sent) token(a, b *client.Client, token string) {
	s.t.Helper()
	s.add("token", token)
	s.add("the end of a token", token[len(token)-20:])
	for _, c := range []*client.Client{a, b} {
		if _, err := c.Detokenize(s.t.Context(), reveal(token)); err != nil {
			s.t.Fatal(err)
		}
	}
	masked := client.DetokenizeRequest{Purpose: "e2e", Items: []client.DetokenizeItem{{Token: token, Reveal: client.RevealMasked}}}
	if _, err := a.Detokenize(s.t.Context(), masked); err != nil {
		s.t.Fatal(err)
	}
	if _, err := a.Inspect(s.t.Context(), token); err != nil {
		s.t.Fatal(err)
	}
	if _, err := a.QueryAudit(s.t.Context(), client.AuditQueryRequest{Token: token}); err != nil {
		s.t.Fatal(err)
	}
}

func (p *process) metrics(region string) string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.addrs[region]+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(text, []byte("vault_request_seconds")) {
		p.t.Fatalf("metrics: %v, %d bytes", err, len(text))
	}
	return string(text)
}

const deterministicType = "- name: customer_email\n  kind: email\n  token: deterministic\n  accept_guessing: true\n"

// G4: nothing that was sent or given out is readable in files, logs (at level
// debug), metrics or refusals, while the process runs, after it was killed and
// after it has ended.
func TestNothingReadableAtRest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := startDev(t, dir, "--log", "debug", "--types", typesFile(t))
	s := &sent{t: t}
	credential := s.add("dev key", p.key())
	s.traffic(p)
	s.mistakes(p)
	s.wantNone("the metrics", p.metrics(regionA)+p.metrics(regionB))
	p.kill()
	s.wantNone("the log", p.stderr.String())
	s.scanned(dir)

	again := startDev(t, dir, "--log", "debug", "--types", typesFile(t))
	again.stop()
	s.wantNone("the log", again.stderr.String())
	s.wantNone("the log of a key", strings.ReplaceAll(again.stderr.String(), credential, ""))
	s.scanned(dir)
	s.planted(dir)
	t.Logf("%d needles", len(s.needles))
}

// typesFile lists every built-in kind and a deterministic type.
func typesFile(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, kind := range []string{
		"email", "phone", "name", "address", "date_of_birth", "ssn", "national_id", "card_number", "iban", "ip", "text", "json", "bytes",
	} {
		fmt.Fprintf(&text, "- name: %s\n  kind: %s\n", kind, kind)
	}
	path := filepath.Join(t.TempDir(), "types.yaml")
	if err := os.WriteFile(path, []byte(text.String()+deterministicType), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// scanned looks through the directory without dev.key, which is the client's.
func (s *sent) scanned(dir string) {
	s.t.Helper()
	at := copyOf(s.t, dir)
	if err := os.Remove(filepath.Join(at, "dev.key")); err != nil {
		s.t.Fatal(err)
	}
	report, err := scan.Dir(at, s.needles)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, hit := range report.Hits {
		s.t.Errorf("%s: %s %s: %s as %s", hit.File, hit.Place, hit.Key, hit.Needle, hit.Encoding)
	}
	if report.Databases != 2 || report.Keys < 100 {
		s.t.Errorf("the scanner saw %d databases and %d keys", report.Databases, report.Keys)
	}
	s.t.Logf("%d files, %d bytes, %d keys", report.Files, report.Bytes, report.Keys)
}

// quiet is a logger.
type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// planted proves that the scanner sees what it looks for: in a value of a
// region's database, in a file, in a log.
func (s *sent) planted(dir string) {
	s.t.Helper()
	at := copyOf(s.t, dir)
	db, err := pebble.Open(filepath.Join(at, regionB, "data"), &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := db.Set([]byte("planted"), []byte("before "+strings.ToUpper(string(s.needles[1].Value))+" behind"), pebble.Sync); err != nil {
		s.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "left.tmp"), fmt.Appendf(nil, "%x", s.needles[2].Value), 0o600); err != nil {
		s.t.Fatal(err)
	}
	report, err := scan.Dir(at, s.needles[1:3])
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[scan.Place]bool{}
	for _, hit := range report.Hits {
		found[hit.Place] = true
	}
	if !found[scan.InValue] || !found[scan.InBytes] {
		s.t.Errorf("planted needles are not found: %v", report.Hits)
	}
	scanner, err := scan.New(s.needles)
	if err != nil {
		s.t.Fatal(err)
	}
	log := `{"level":"error","body":"` + base64.StdEncoding.EncodeToString(append([]byte("x"), s.needles[1].Value...)) + `"}`
	if report, err := scanner.Reader("log", strings.NewReader(log)); err != nil || len(report.Hits) == 0 {
		s.t.Errorf("a needle planted in a log is not found: %v", err)
	}
}
