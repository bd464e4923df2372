package interop

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/crypto"
)

// TestInterop is G10: by hands other than ours, on a KMS by hands other than
// ours and on ours, with keys of each region and with a multi-Region key (moto
// opens nothing that a multi-Region key encrypted).
func TestInterop(t *testing.T) {
	for name, mode := range map[string]crypto.Mode{"copies/moto": crypto.Copies, "copies/dev-kms": crypto.Copies, "multi_region/dev-kms": crypto.MultiRegion} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d *deployment
			if strings.HasSuffix(name, "moto") {
				d = onMoto(t)
			} else {
				d = onOurs(t, mode)
			}
			w := d.fill()
			t.Run("theirs opens ours", func(t *testing.T) { w.opened(t) })
			t.Run("a bound value needs its token", func(t *testing.T) { w.bound(t) })
			t.Run("ours opens theirs", func(t *testing.T) { d.opensTheirs(t) })
			t.Run("recover.md", func(t *testing.T) { w.recovered(t) })
		})
	}
}

// written is what a deployment holds: values, their rows, and of those that
// were repaired the rows before.
type written struct {
	*deployment
	values   []kept
	degraded []kept         // of values: those sealed while a region's KMS was away
	gone     []kept         // erased
	records  map[string]row // by token
	before   map[string]row // by token, of the degraded: before their repair
	secret   row
}

// fill writes values of every type and size; some while the other region's
// KMS is away (with a multi-Region key: this region's), which is then back.
func (d *deployment) fill() *written {
	d.t.Helper()
	w := &written{deployment: d, records: map[string]row{}, before: map[string]row{}}
	long := strings.Repeat("sixty-four KiB ", 64<<10/15)
	w.values = d.keep(
		client.TokenizeItem{Type: "email", Value: "ann@example.com", SubjectID: "C-1"},
		client.TokenizeItem{Type: "email", Value: strings.Repeat("b", 64) + "@example.com"},
		client.TokenizeItem{Type: "email", Value: "zoë@exämple.com"},
		client.TokenizeItem{Type: "note", Value: "one line\nand another\t!"},
		client.TokenizeItem{Type: "note", Value: strings.Repeat("x", 32), SubjectID: "C-2"},
		client.TokenizeItem{Type: "letter", Value: long + strings.Repeat("!", 64<<10-len(long))},
		client.TokenizeItem{Type: "letter", Value: "soon to expire", ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second)},
		client.TokenizeItem{Type: "blob", Value: base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 254, 255, 0})},
		client.TokenizeItem{Type: "login", Value: "ann.login@example.com", SubjectID: "C-1"},
		client.TokenizeItem{Type: "card", Value: "4111111111111111"},
	)
	for i, v := range w.values {
		if v.typ == "blob" {
			w.values[i].value, _ = base64.StdEncoding.DecodeString(string(v.value)) // it was encoded just now
		}
	}
	for i := range 4 { // three messages of the first data key, one of the next
		w.values = append(w.values, d.keep(client.TokenizeItem{Type: "shared", Value: fmt.Sprintf("same-%d@example.com", i)})...)
		w.values = append(w.values, d.keep(client.TokenizeItem{Type: "pin", Value: fmt.Sprintf("pin no. %d", i)})...)
	}
	w.erased()
	w.away()
	w.identify()
	return w
}

// erased erases a value for good, and a deterministic one that is then made again.
func (w *written) erased() {
	w.t.Helper()
	again := client.TokenizeItem{Type: "login", Value: "again@example.com"}
	first := w.keep(again)[0]
	w.gone = w.keep(client.TokenizeItem{Type: "note", Value: "to be erased"})
	for _, v := range append([]kept{first}, w.gone...) {
		if _, err := w.vault.Erase(w.t.Context(), v.token); err != nil {
			w.t.Fatal(err)
		}
	}
	eventually(w.t, "the erased value can be kept again", func() bool {
		_, err := w.vault.Tokenize(w.t.Context(), "", client.TokenizeRequest{Items: []client.TokenizeItem{again}})
		return err == nil
	})
	w.values = append(w.values, first)
}

// away writes while a KMS is away, reads, and waits until all is repaired.
func (w *written) away() {
	w.t.Helper()
	region := remote
	if w.mode == crypto.MultiRegion {
		region = local
	}
	w.down[region].Store(true)
	// Keys made before the outage may have full copies still.
	eventually(w.t, "three records are degraded", func() bool {
		for _, typ := range []string{"email", "note"} {
			v := w.keep(client.TokenizeItem{Type: typ, Value: fmt.Sprintf("away-%d@example.com", len(w.values))})[0]
			w.values = append(w.values, v)
			if w.mode == crypto.MultiRegion || len(v.missing) > 0 {
				w.degraded = append(w.degraded, v)
			}
		}
		return len(w.degraded) >= 3
	})
	all := w.values
	w.values = w.degraded
	w.identify()
	w.values, w.before = all, maps.Clone(w.records)
	w.down[region].Store(false)
	eventually(w.t, "all is repaired", func() bool {
		answer, err := w.vault.Regions(w.t.Context())
		return err == nil && answer.DegradedRecords == 0
	})
}

// identify finds the rows of all values by what format.md says of record ids.
func (w *written) identify() {
	w.t.Helper()
	records, secrets := w.rows(local)
	if len(secrets) != 1 || secrets[0].PK != w.tenant {
		w.t.Fatalf("%d tenant secrets", len(secrets))
	}
	w.secret = secrets[0]
	secret := w.python.must(w.t, question{Op: "open_value", Keyring: "mrk", ARNs: w.keys[:1], Message: w.secret.Message})[0].Value
	questions := make([]question, len(w.values))
	for i, v := range w.values {
		questions[i] = question{Op: "record_id", Tenant: w.tenant, Secret: secret, Token: v.token}
	}
	for i, a := range w.python.must(w.t, questions...) {
		at := slices.IndexFunc(records, func(r row) bool {
			return r.PK == w.tenant+"#"+a.Record && (r.SK == "R#00000000" || r.SK == "R#00000001")
		})
		if at < 0 {
			w.t.Fatalf("value %d, of type %s, has no row", i, w.values[i].typ)
		}
		w.records[w.values[i].token] = records[at]
	}
}
