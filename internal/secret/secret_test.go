package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

const canary = "canary-7f3a9c-canary-7f3a9c-1234"

type nested struct {
	Public secret.Plaintext
	hidden struct {
		value secret.Plaintext
		key   secret.Key
		text  secret.Text
	}
}

// G4: no printed form of a secret shows it, at any depth and with any verb.
func TestEveryPrintedFormIsRedacted(t *testing.T) {
	key, err := secret.NewKey([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	n := nested{Public: secret.NewPlaintext([]byte(canary))}
	n.hidden.value = secret.NewPlaintext([]byte(canary))
	n.hidden.key, n.hidden.text = key, secret.NewText(canary)

	printed := new(strings.Builder)
	values := []any{n, &n, n.Public, n.hidden.key, n.hidden.text, []any{n.hidden.text}, map[string]any{"k": key}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			fmt.Fprintf(printed, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		printed.Write(b)
		log := zerolog.New(printed)
		log.Info().Interface("v", v).Msg("x")
	}
	out := printed.String()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")} {
		if strings.Contains(out, form) {
			t.Errorf("a printed form shows the secret as %.12q…", form)
		}
	}
	if !strings.Contains(out, secret.Redacted) {
		t.Error("nothing was printed as redacted")
	}
}

func TestWipeClearsTheBackingBytes(t *testing.T) {
	b := []byte(canary)
	p := secret.NewPlaintext(b)
	p.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) || p.Len() != 0 {
		t.Error("a wiped value is still there")
	}
	k, _ := secret.NewKey([]byte(canary))
	c := k.Clone()
	k.Wipe()
	if !bytes.Equal(k.Bytes(), make([]byte, secret.KeySize)) {
		t.Error("a wiped key is still there")
	}
	if string(c.Bytes()) != canary {
		t.Error("wiping a key wiped its clone")
	}
}

func TestKeySize(t *testing.T) {
	if _, err := secret.NewKey([]byte("short")); err == nil {
		t.Error("a short key was accepted")
	}
	if _, err := secret.GenerateKey(strings.NewReader("short")); err == nil {
		t.Error("a short read was accepted")
	}
}
