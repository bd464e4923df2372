package embedded

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"piivault/internal/store"
)

// scanBatch bounds the rows that one call looks at: an iterator holds the
// engine's old state as long as it lives.
const scanBatch = 10_000

// Scan implements store.Store. One process owns the directory and there is
// nobody to share a scan with: all records are in the first segment.
func (s *Store) Scan(ctx context.Context, part store.Part, page store.Page) (rows []store.Row, next string, err error) {
	from, err := scanFrom(ctx, part, page)
	if err != nil {
		return nil, "", fault("scan", err)
	}
	if part.Segment > 0 {
		return nil, "", nil
	}
	looked := 0
	err = s.e.Scan(tableID, from, nil, func(row, value []byte) (bool, error) {
		if len(rows) == page.Limit || looked == scanBatch {
			next = base64.RawURLEncoding.EncodeToString(row)
			return false, nil
		}
		looked++
		r, listed, err := scanned(row, value, part.Below)
		if listed {
			rows = append(rows, r)
		}
		return true, err
	})
	if err != nil {
		return nil, "", fault("scan", err)
	}
	return rows, next, nil
}

// scanFrom checks what is asked and gives the first row to look at: a cursor is a row's key.
func scanFrom(ctx context.Context, part store.Part, page store.Page) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if page.Limit < 1 || part.Segment < 0 || part.Segment >= part.Segments {
		return nil, fmt.Errorf("%w: a scan needs a limit and one of its segments", errInvalid)
	}
	from, err := base64.RawURLEncoding.DecodeString(page.After)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, store.ErrCursor)
	}
	return slices.Clip(from), nil
}

func scanned(row, value []byte, below uint64) (r store.Row, listed bool, err error) {
	if isBeat(row) {
		return r, false, nil
	}
	k, err := parseRow(row)
	if err != nil || k.kind != kindRecord {
		return r, false, err
	}
	record, err := parseRecord(value)
	if err != nil || below > 0 && record.epoch >= below {
		return r, false, err
	}
	r = store.Row{Key: k.key(), RingEpoch: record.epoch, Expires: record.expires}
	for _, region := range record.missing {
		r.Missing = append(r.Missing, string(region))
	}
	return r, true, nil
}
