package vault_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// samples are one valid value of each built-in type, and what comes back.
func samples() map[string][2]string {
	return map[string][2]string{
		"email":         {"Ann@Example.COM", "Ann@example.com"},
		"phone":         {"+353 85 079 3379", "+353850793379"},
		"name":          {"Zoë Ó Briain", "Zoë Ó Briain"},
		"address":       {"1 High Street\nCork", "1 High Street\nCork"},
		"date_of_birth": {"1990-02-28", "1990-02-28"},
		"ssn":           {"778-35-0827", "778-35-0827"},
		"card_number":   {"4111 1111 1111 1111", "4111111111111111"},
		"iban":          {"IE15 PVZW 3406 7884 2377 82", "IE15PVZW34067884237782"},
		"ip":            {"89.70.106.117", "89.70.106.117"},
		"text":          {"call after six", "call after six"},
		"json":          {`{"a":[1,2]}`, `{"a":[1,2]}`},
		"bytes":         {"AAECAw==", "AAECAw=="},
	}
}

// G1: what was acknowledged detokenizes in every region that it replicated to.
func TestEveryTypeComesBackInEveryRegion(t *testing.T) {
	w := newWorld(t)
	for typ, s := range samples() {
		token := w.token(w.a, typ, s[0])
		w.settle()
		w.wantReveal(w.a, token, s[1])
		w.wantReveal(w.b, token, s[1])
	}
}

func TestCopiesOfEveryRegionAreNamed(t *testing.T) {
	w := newWorld(t)
	for _, v := range []*vault.Vault{w.a, w.b} {
		out := w.tokenize(v, value("email", "ann@example.com"))[0]
		if !sameSet(out.Copies.Present, regionA, regionB) || len(out.Copies.Missing) != 0 {
			t.Errorf("key copies %+v", out.Copies)
		}
	}
}

// A token that has not replicated yet is found in the region that its hint names.
func TestUnreplicatedTokenIsFoundInItsRegion(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.wantReveal(w.b, token, "ann@example.com")
}

func TestUnreachableHintIsNotYetVisible(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	unknown := w.token(w.a, "email", "bob@example.com").Reveal()
	unknown = unknown[:len(unknown)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(unknown, "A")]
	w.fault(sim.Fault{Region: regionA, Link: "down"})
	for _, token := range []secret.Text{token, secret.NewText(unknown)} {
		_, err := w.b.Detokenize(t.Context(), w.admin, ask(token))
		wantCode(t, err, vault.ErrUnavailable, "not_yet_visible")
	}
	w.fault(sim.Fault{Region: regionA, Link: "up"})
	w.wantReveal(w.b, token, "ann@example.com")
	w.wantGone(w.b, secret.NewText(unknown))
}

// Every invalid value is refused with a code and its index, and nothing of its
// batch is stored.
func TestInvalidValuesRefuseTheWholeBatch(t *testing.T) {
	w := newWorld(t)
	for _, row := range invalidRows(t) {
		bad := value(row.Type, row.Value)
		bad.Country = row.Country
		req := vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com"), bad}}
		_, err := w.a.Tokenize(t.Context(), w.admin, req)
		refused, ok := err.(*vault.Error) //nolint:errorlint // the domain returns it itself
		if !ok || len(refused.Items) != 1 || refused.Items[0].Index != 1 || refused.Items[0].Code == "" {
			t.Errorf("%s (%s): %v", row.Type, row.Why, err)
			continue
		}
		if len(row.Value) > 3 && strings.Contains(refused.Error()+refused.Message+refused.Items[0].Message, row.Value) {
			t.Errorf("%s (%s): the refusal repeats the value", row.Type, row.Why)
		}
	}
	if n := len(w.entries(w.a, "tokenize")); n != 0 {
		t.Errorf("%d tokenizes were recorded, want none", n)
	}
}

type invalidRow struct{ Type, Value, Country, Why string }

func invalidRows(t *testing.T) []invalidRow {
	t.Helper()
	var rows []invalidRow
	for _, name := range []string{"../pii/testdata/invalid.jsonl", "../pii/testdata/invalid_more.jsonl"} {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var row invalidRow
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
		_ = file.Close()
	}
	return rows
}

func TestContinueAnswersItemByItem(t *testing.T) {
	w := newWorld(t)
	out, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Continue: true, Items: []vault.TokenizeItem{
		value("email", "no at sign"), value("email", "ann@example.com"), value("no_such_type", "x"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Err == nil || out[1].Err != nil || out[2].Err == nil || out[2].Err.Code != "unknown_type" || out[2].Err.Index != 2 {
		t.Errorf("answers %+v", out)
	}
	w.wantReveal(w.a, out[1].Token, "ann@example.com")
}

func TestIdempotencyKeyGivesTheSameTokens(t *testing.T) {
	w := newWorld(t)
	send := func(v *vault.Vault, key, text string) string {
		t.Helper()
		out, err := v.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{
			Items: []vault.TokenizeItem{value("email", text)}, IdempotencyKey: idempotencyKey(key),
		})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Token.Reveal()
	}
	first := send(w.a, "k", "ann@example.com")
	if again := send(w.a, "k", "ann@example.com"); again != first {
		t.Error("a retry gave another token")
	}
	if elsewhere := send(w.b, "k", "ann@example.com"); elsewhere != first {
		t.Error("a retry in another region gave another token")
	}
	if other := send(w.a, "k", "bob@example.com"); other == first {
		t.Error("another body gave the same token")
	}
	if other := send(w.a, "l", "ann@example.com"); other == first {
		t.Error("another key gave the same token")
	}
	w.settle()
	w.wantReveal(w.a, secret.NewText(first), "ann@example.com")
	w.wantReveal(w.b, secret.NewText(first), "ann@example.com")
}

// G9: a retry does not bring back what was erased.
func TestIdempotentRetryOverATombstoneIsRefused(t *testing.T) {
	w := newWorld(t)
	req := func() vault.TokenizeRequest {
		return vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}, IdempotencyKey: idempotencyKey("k")}
	}
	out, err := w.a.Tokenize(t.Context(), w.admin, req())
	if err != nil {
		t.Fatal(err)
	}
	w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{out[0].Token}})
	_, err = w.a.Tokenize(t.Context(), w.admin, req())
	wantCode(t, err, vault.ErrConflict, "erased")
	w.wantGone(w.a, out[0].Token)
}

func TestDeterministicTokensAgreeWithoutCoordination(t *testing.T) {
	w := newWorld(t)
	w.fault(sim.Fault{Region: regionA, Link: "down"})
	first := w.token(w.a, "customer_email", "ann@example.com")
	if !w.token(w.b, "customer_email", "ann@EXAMPLE.com").Equal(first) {
		t.Error("the same value has another token in another region")
	}
	if !w.token(w.a, "customer_email", "ann@example.com").Equal(first) {
		t.Error("the same value has another token the second time")
	}
	if w.token(w.a, "customer_email", "bob@example.com").Equal(first) {
		t.Error("another value has the same token")
	}
	w.fault(sim.Fault{Region: regionA, Link: "up"})
	w.settle()
	w.wantReveal(w.a, first, "ann@example.com")
	w.wantReveal(w.b, first, "ann@example.com")
}

func TestSameDeterministicValueTwiceInABatch(t *testing.T) {
	w := newWorld(t)
	out := w.tokenize(w.a, value("customer_email", "ann@example.com"), value("customer_email", "ann@example.com"))
	if !out[0].Token.Equal(out[1].Token) || len(out[1].Copies.Present) != 2 {
		t.Errorf("answers %+v", out)
	}
	w.wantReveal(w.a, out[1].Token, "ann@example.com")
}

func TestExpiredIsGone(t *testing.T) {
	w := newWorld(t)
	item := value("email", "ann@example.com")
	item.Expires = w.clock.now().Add(time.Hour).Format(time.RFC3339)
	token := w.tokenize(w.a, item)[0].Token
	w.wantReveal(w.a, token, "ann@example.com")
	w.clock.advance(2 * time.Hour)
	w.wantGone(w.a, token)
	w.clock.advance(2 * time.Hour)
	w.a.SweepPass(t.Context())
	w.settle()
	w.wantGone(w.b, token)
}

func TestBadFieldsAreRefused(t *testing.T) {
	w := newWorld(t)
	past := value("email", "ann@example.com")
	past.Expires = "2020-01-01T00:00:00Z"
	subject := value("email", "ann@example.com")
	subject.Subject = "a\x00b"
	permanent := value("customer_email", "ann@example.com")
	permanent.Expires = "2030-01-01T00:00:00Z"
	for code, item := range map[string]vault.TokenizeItem{"invalid_expires_at": past, "invalid_subject_id": subject} {
		_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{item}})
		wantCode(t, err, vault.ErrInvalid, code)
	}
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{permanent}})
	wantCode(t, err, vault.ErrInvalid, "invalid_expires_at")
}

// G1: a token that any region may have made is found where it is, though
// another region cannot be asked. (Found by the simulation.)
func TestARegionThatIsOutHidesNoOthersRecords(t *testing.T) {
	const third = "ap-south-1"
	w := newWorld(t, func(c *sim.Config) { c.Regions = append(c.Regions, third) })
	token := w.token(w.Region(third).Vault, "customer_email", "ann@example.com")
	w.fault(sim.Fault{Region: regionB, Link: "down"})
	w.wantReveal(w.a, token, "ann@example.com")
	unknown := w.token(w.b, "customer_email", "bob@example.com")
	_, err := w.a.Detokenize(t.Context(), w.admin, ask(unknown))
	wantCode(t, err, vault.ErrUnavailable, "not_yet_visible")
}
