package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"piivault/internal/crypto"
)

// suite is the one that is written: format.md §1.
const suite = 0x0478

// expect is a case: a question, and what is wrong with its answer.
type expect struct {
	name  string
	ask   question
	wrong func(answer) error
}

// holds asks all cases in one batch, and counts them.
func (o *oracle) holds(t *testing.T, cases []expect) {
	t.Helper()
	questions := make([]question, len(cases))
	for i, c := range cases {
		questions[i] = c.ask
	}
	refused := 0
	for i, a := range o.ask(t, questions...) {
		if a.failed() {
			refused++
		}
		if err := cases[i].wrong(a); err != nil {
			t.Errorf("%s: %v", cases[i].name, err)
		}
	}
	t.Logf("%d cases: %d opened, %d refused", len(cases), len(cases)-refused, refused)
}

func opens(plaintext []byte) func(answer) error {
	return func(a answer) error {
		if a.failed() || !bytes.Equal(a.Plaintext, plaintext) {
			return fmt.Errorf("not opened, or to something else: %v", a.Error)
		}
		return nil
	}
}

func refuses(kinds ...string) func(answer) error {
	return func(a answer) error {
		if kind, ok := a.Error.(string); !ok || len(kinds) > 0 && !slices.Contains(kinds, kind) {
			return fmt.Errorf("error %v, not one of %v", a.Error, kinds)
		}
		return nil
	}
}

// noCopy is the stock SDK's where no copy is for the keyring.
const noCopy = "AWSEncryptionSDKClientError"

// keyrings are those that must open a message with all its copies.
func (w *written) keyrings() map[string][]string {
	if w.mode == crypto.MultiRegion {
		return map[string][]string{"mrk " + regions()[local]: w.keys[:1], "mrk " + regions()[remote]: w.keys[1:]}
	}
	return map[string][]string{
		"strict " + regions()[local]: w.keys[:1], "strict " + regions()[remote]: w.keys[1:],
		"multi": w.keys, "mrk " + regions()[local]: w.keys[:1],
	}
}

// opened: each value, whole, with the keyring of each region; before its
// repair with that of the regions that had a copy. The same by the Go SDK.
func (w *written) opened(t *testing.T) {
	t.Helper()
	var cases, second []expect
	for i, v := range w.values {
		r := w.records[v.token]
		name := fmt.Sprintf("value %d (%s)", i, v.typ)
		for keyring, arns := range w.keyrings() {
			kind, _, _ := strings.Cut(keyring, " ")
			cases = append(cases,
				expect{name + ", message, " + keyring, question{Op: "decrypt", Keyring: kind, ARNs: arns, Message: r.Message}, w.headerOf(v)},
				expect{name + ", value, " + keyring, question{Op: "open_value", Keyring: kind, ARNs: arns, Message: r.Message, Token: v.token}, w.valueOf(v, r)})
		}
		second = append(second, w.second(name, r.Message, true, true)...)
	}
	for i, v := range w.degraded {
		before := w.before[v.token]
		name := fmt.Sprintf("value %d (%s), before its repair", i, v.typ)
		has, wrong := w.valueOf(v, before), refuses(noCopy)
		if w.mode == crypto.MultiRegion {
			wrong = has // one copy, made by the replica of the region that was not away
		} else if before.Gap == "" || bytes.Equal(before.Message, w.records[v.token].Message) {
			t.Errorf("%s: it was not degraded, or is not repaired", name)
		}
		for region, want := range []func(answer) error{has, wrong} {
			cases = append(cases, expect{name + ", " + regions()[region], question{
				Op: "open_value", Keyring: "mrk", ARNs: w.keys[region : region+1], Message: before.Message, Token: v.token,
			}, want})
		}
		second = append(second, w.second(name, before.Message, true, w.mode == crypto.MultiRegion)...)
	}
	cases = append(cases, w.special()...)
	second = append(second, w.second("the tenant's secret", w.secret.Message, true, true)...)
	w.python.holds(t, cases)
	w.sharedKeys(t)
	t.Run("the Go SDK too", func(t *testing.T) { startOracle(t, w.env, binaries.goSDK).holds(t, second) })
}

// special are the tenant's secret, and what must not be opened.
func (w *written) special() (cases []expect) {
	for keyring, arns := range w.keyrings() {
		kind, _, _ := strings.Cut(keyring, " ")
		cases = append(cases, expect{"the tenant's secret, " + keyring, question{Op: "open_value", Keyring: kind, ARNs: arns, Message: w.secret.Message}, func(a answer) error {
			if a.failed() || len(a.Value) != 32 || a.place != (place{Tenant: w.tenant, Type: "!tenant-secret"}) {
				return fmt.Errorf("not as format.md says: %v", a.Error)
			}
			return nil
		}})
	}
	message := w.records[w.values[0].token].Message
	for _, at := range []int{0, 2, 3, 40, len(message) / 2, len(message) - 1} { // version, suite, message id, context, in the middle, tag
		flipped := bytes.Clone(message)
		flipped[at] ^= 1
		cases = append(cases, expect{fmt.Sprint("byte ", at, " flipped"), question{Op: "decrypt", Keyring: "mrk", ARNs: w.keys[:1], Message: flipped}, refuses()})
	}
	if w.mode == crypto.MultiRegion { // the strict keyring knows its own ARN only
		cases = append(cases,
			expect{"strict, the key that made it", question{Op: "open_value", Keyring: "strict", ARNs: w.keys[:1], Message: message, Token: w.values[0].token}, w.valueOf(w.values[0], w.records[w.values[0].token])},
			expect{"strict, a replica", question{Op: "decrypt", Keyring: "strict", ARNs: w.keys[1:], Message: message}, refuses(noCopy)})
	}
	return cases
}

// second asks the Go SDK, which answers with the outer layer's content: its
// end is a padded value, or sealed.
func (w *written) second(name string, message []byte, has ...bool) (cases []expect) {
	first := w.python.ask(w.t, question{Op: "decrypt", Keyring: "mrk", ARNs: w.keys[:1], Message: message})[0]
	for i, region := range regions() {
		want := opens(first.Plaintext)
		if !has[i] {
			want = func(a answer) error {
				if !a.failed() {
					return fmt.Errorf("opened without a copy")
				}
				return nil
			}
		}
		cases = append(cases, expect{name + ", " + region, question{Region: region, Endpoint: w.kms, ARN: w.keys[i], Message: message}, want})
	}
	return cases
}

// headerOf holds a message's header against format.md §1.
func (w *written) headerOf(v kept) func(answer) error {
	return func(a answer) error {
		copies := slices.Sorted(slices.Values(w.keys))
		switch {
		case a.failed():
			return fmt.Errorf("not opened: %v", a.Error)
		case a.Suite != suite:
			return fmt.Errorf("suite %#x", a.Suite)
		case len(a.Context) != 3 || a.Context["pv-tenant"] != w.tenant || a.Context["pv-type"] != v.typ || len(a.Context["pv-key"]) != 22:
			return fmt.Errorf("context %v", a.Context)
		case w.mode == crypto.Copies && !slices.Equal(a.Copies, copies), w.mode == crypto.MultiRegion && (len(a.Copies) != 1 || !slices.Contains(w.keys, a.Copies[0])):
			return fmt.Errorf("copies %v", a.Copies)
		}
		return nil
	}
}

// valueOf holds an inner structure against format.md §2.
func (w *written) valueOf(v kept, r row) func(answer) error {
	return func(a answer) error {
		switch generation := "R#" + fmt.Sprintf("%08x", a.Generation); {
		case a.failed():
			return fmt.Errorf("not opened: %v", a.Error)
		case !bytes.Equal(a.Value, v.value):
			return fmt.Errorf("another value, of %d bytes", len(a.Value))
		case a.Tenant+"#"+a.Record != r.PK || generation != r.SK || a.Type != v.typ || a.Created == 0:
			return fmt.Errorf("another place: %s, generation %d, type %s", a.Record, a.Generation, a.Type)
		case (v.typ == "letter") != (a.Expires != 0):
			return fmt.Errorf("expires %d", a.Expires)
		}
		return nil
	}
}

// sharedKeys: of four messages three share a data key, which they name alike.
func (w *written) sharedKeys(t *testing.T) {
	t.Helper()
	for _, typ := range []string{"shared", "pin"} {
		keys := map[string]int{}
		for _, v := range w.values {
			if v.typ == typ {
				q := question{Op: "decrypt", Keyring: "mrk", ARNs: w.keys[:1], Message: w.records[v.token].Message}
				keys[w.python.must(t, q)[0].Context["pv-key"]]++
			}
		}
		if len(keys) != 2 {
			t.Errorf("%s: data keys and their messages: %v", typ, keys)
		}
	}
}

// bound is G5 (b): with the whole database and every KMS, what a bound value's
// message gives holds no six bytes of it that follow one another, and the
// inner step fails without the token and with another.
func (w *written) bound(t *testing.T) {
	t.Helper()
	var questions []question
	var cases []expect
	var bound []kept
	for _, v := range w.values {
		if strings.Contains("note pin login card", v.typ) {
			continue
		}
		q := question{Op: "open_value", Keyring: "mrk", ARNs: w.keys[:1], Message: w.records[v.token].Message}
		cases = append(cases, expect{v.typ + ", no token", q, refuses("InvalidTag")})
		q.Token = w.values[len(w.values)-1].token
		if v.token != q.Token {
			cases = append(cases, expect{v.typ + ", another's token", q, refuses("InvalidTag")})
		}
		q.Op = "decrypt"
		questions, bound = append(questions, q), append(bound, v)
	}
	w.python.holds(t, cases)
	for i, a := range w.python.must(t, questions...) {
		if v := bound[i]; shares(a.Plaintext, v.value) {
			t.Errorf("%s: a part of the value is readable without the token", v.typ)
		}
	}
	plain := slices.IndexFunc(w.values, func(v kept) bool { return v.typ == "note" })
	v := w.values[plain]
	if a := w.python.must(t, question{Op: "decrypt", Keyring: "mrk", ARNs: w.keys[:1], Message: w.records[v.token].Message})[0]; !shares(a.Plaintext, v.value) {
		t.Error("the look for a value finds none where there is one")
	}
}

// shares reports six bytes in a row (or all, where there are fewer, of four
// and more) that are in both.
func shares(b, value []byte) bool {
	n := min(6, len(value))
	for i := 0; i+n <= len(value); i++ {
		if bytes.Contains(b, value[i:i+n]) {
			return true
		}
	}
	return false
}

// recovered follows docs/recover.md in each region, word by word: what it
// says to install is installed where the test began.
func (w *written) recovered(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "recover.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("recover.md shows %d blocks of commands, not what is installed and what is run", len(blocks))
	}
	eventually(t, "the other region has the records", func() bool {
		here, _ := w.rows(local)
		there, _ := w.rows(remote)
		return sameRows(here, there)
	})
	for region := range regions() {
		w.recover(t, region, blocks[0][1], blocks[1][1])
	}
}

func (w *written) recover(t *testing.T, region int, install, command string) {
	t.Helper()
	dir := t.TempDir()
	for _, file := range []string{"open.py", "requirements.txt"} {
		if err := os.Symlink(filepath.Join(root, "test", "interop", file), filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "python3 -m venv recover\nrecover/bin/pip install --require-hashes -r requirements.txt\n"; install != want {
		t.Errorf("recover.md installs %q", install)
	}
	if err := os.Symlink(filepath.Dir(venv), filepath.Join(dir, "recover")); err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for _, v := range slices.Concat(w.values, w.gone) {
		tokens = append(tokens, v.token)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens"), []byte(strings.Join(tokens, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", command)
	cmd.Dir, cmd.Env = dir, append(slices.Clone(w.env), "KEY_ARN="+w.keys[region], "TENANT=acme")
	out, err := cmd.CombinedOutput()
	if len(w.gone) > 0 == (err == nil) {
		t.Errorf("%s: %v: %s", regions()[region], err, out)
	}
	answers, err := os.ReadFile(filepath.Join(dir, "values.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	w.compare(t, strings.Split(strings.TrimSpace(string(answers)), "\n"))
}

func (w *written) compare(t *testing.T, lines []string) {
	t.Helper()
	if len(lines) != len(w.values)+len(w.gone) {
		t.Fatalf("%d lines for %d tokens", len(lines), len(w.values)+len(w.gone))
	}
	for i, v := range slices.Concat(w.values, w.gone) {
		var got struct {
			Token, Type, Error string
			Value              []byte
		}
		if err := json.Unmarshal([]byte(lines[i]), &got, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if i < len(w.values) && (got.Token != v.token || got.Type != v.typ || !bytes.Equal(got.Value, v.value)) {
			t.Errorf("value %d (%s) is not recovered: %s", i, v.typ, got.Error)
		}
		if i >= len(w.values) && (got.Error != "unknown, erased or expired" || got.Value != nil) {
			t.Errorf("an erased value: %q", got.Error)
		}
	}
	t.Logf("%d values recovered, %d erased ones not", len(w.values), len(w.gone))
}
