package bulk

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	"piivault/client"
	"piivault/cmd/vault/internal/rows"
)

// keyLabel begins every input of the HMAC that makes idempotency keys.
const keyLabel = "piivault/bulk/idempotency-key/v1"

// maxBatchRaw bounds the memory of a batch whose rows have few items.
const maxBatchRaw = 1 << 20

// entry is one row on its way.
type entry struct {
	row    *rows.Row
	items  []Item
	code   string // refuses the row as a whole
	errors []FieldError
	with   []rows.Replacement
}

func (e *entry) refused() bool { return e.code != "" || len(e.errors) > 0 }

func (e *entry) report() report {
	return report{Row: e.row.Number, Line: e.row.Line, Code: e.code, Fields: e.errors}
}

func (e *entry) bytes() int {
	n := 0
	for _, it := range e.items {
		n += len(it.Value) + len(it.Subject)
	}
	return n
}

// batch is consecutive rows that are exchanged together. Its owner is the
// cutter, then one worker until done is closed, then the writer.
type batch struct {
	ordinal int64
	entries []*entry
	end     rows.Position
	err     error
	done    chan struct{}
}

// nextBatch cuts by rows, Config.MaxItems and MaxBytes only, so that every run
// over the same input cuts alike. Its err is that of reading, or io.EOF.
func (r *run) nextBatch(ordinal int64) *batch {
	b := &batch{ordinal: ordinal, done: make(chan struct{})}
	items, bytes, raw := 0, 0, 0
	for {
		e, err := r.nextEntry()
		if err != nil {
			if !errors.Is(err, io.EOF) || len(b.entries) == 0 {
				b.err = err
			}
			return b
		}
		items, bytes, raw = items+len(e.items), bytes+e.bytes(), raw+e.row.Size()
		if len(b.entries) > 0 && (items > r.c.MaxItems || bytes > r.c.MaxBytes || raw > maxBatchRaw) {
			r.pending = e
			return b
		}
		b.entries, b.end = append(b.entries, e), e.row.End
	}
}

func (r *run) nextEntry() (*entry, error) {
	if e := r.pending; e != nil {
		r.pending = nil
		return e, nil
	}
	row, err := r.reader.Next()
	if err != nil {
		return nil, err
	}
	e := &entry{row: row, code: row.Code}
	if e.code == "" && !row.Blank {
		e.items, e.errors = r.c.Pick(row)
	}
	return e, nil
}

// live lists the entries that have something to exchange.
func (b *batch) live() []int {
	var live []int
	for i, e := range b.entries {
		if len(e.items) > 0 && !e.refused() {
			live = append(live, i)
		}
	}
	return live
}

// settle exchanges the items of the live entries. Nothing is kept of a row
// that the vault refuses: the exchange is all or nothing, so the row is taken
// out and the others are asked for again, under a key of their own.
func (r *run) settle(ctx context.Context, b *batch, live []int) error {
	for len(live) > 0 {
		items, owners := b.gather(live)
		texts, err := r.c.Exchange(ctx, r.idempotencyKey(b.ordinal, live), items)
		if err == nil {
			return b.accept(items, owners, texts)
		}
		var p *client.Error
		switch {
		case !errors.As(err, &p):
			return err
		case p.Status == http.StatusRequestEntityTooLarge && len(live) > 1:
			half := len(live) / 2
			if err := r.settle(ctx, b, live[:half]); err != nil {
				return err
			}
			live = live[half:]
		case p.Status == http.StatusRequestEntityTooLarge:
			b.entries[live[0]].code = SafeCode(p.Code)
			return nil
		case len(p.Items) == 0 || p.Temporary() && !notYetVisible(p):
			return err
		default:
			if live, err = r.drop(b, live, owners, items, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) gather(live []int) (items []Item, owners []*entry) {
	for _, i := range live {
		for _, it := range b.entries[i].items {
			items, owners = append(items, it), append(owners, b.entries[i])
		}
	}
	return items, owners
}

func (b *batch) accept(items []Item, owners []*entry, texts []string) error {
	if len(texts) != len(items) {
		return errors.New("the vault answered another number of items than it was asked for")
	}
	for i, text := range texts {
		if text == "" {
			return errors.New("the vault answered an empty item")
		}
		owners[i].with = append(owners[i].with, rows.Replacement{Field: items[i].Field, Text: text})
	}
	return nil
}

// drop refuses the rows of the items that p lists and returns the others.
func (r *run) drop(b *batch, live []int, owners []*entry, items []Item, p *client.Error) ([]int, error) {
	for _, bad := range p.Items {
		i := int(bad.Index)
		if i < 0 || i >= len(items) {
			return nil, errors.New("the vault refused an item that it was not asked for")
		}
		e := owners[i]
		e.errors = append(e.errors, FieldError{Field: r.c.Fields[items[i].Field], Code: SafeCode(bad.Code)})
	}
	var rest []int
	for _, i := range live {
		if !b.entries[i].refused() {
			rest = append(rest, i)
		}
	}
	return rest, nil
}

// notYetVisible reports tokens that may be in a region which cannot be asked:
// the one refusal for now (503) that patience need not mend, for the region
// may be lost. All other rows go on.
func notYetVisible(p *client.Error) bool {
	for _, it := range p.Items {
		if it.Code != "not_yet_visible" {
			return false
		}
	}
	return true
}

// idempotencyKey = base64url(HMAC-SHA-256(import id, label ‖ ordinal ‖ entry
// numbers)), numbers as 8 bytes big endian: the same rows always go under the
// same key, however the others came to be left out.
func (r *run) idempotencyKey(ordinal int64, live []int) string {
	mac := hmac.New(sha256.New, r.files.key)
	input := append([]byte(keyLabel), binary.BigEndian.AppendUint64(nil, uint64(ordinal))...)
	for _, i := range live {
		input = binary.BigEndian.AppendUint64(input, uint64(i))
	}
	mac.Write(input)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
