package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// Scan implements store.Store: one call of DynamoDB's parallel Scan, which
// looks at as many items as the page may have rows, so that a page costs a
// bounded share of the table's read capacity whatever it lists.
func (s *Store) Scan(ctx context.Context, part store.Part, page store.Page) (rows []store.Row, next string, err error) {
	scan, err := s.newScan(part, page)
	if err != nil {
		return nil, "", fault("scan", err)
	}
	items, last, err := s.db.ScanPage(ctx, scan)
	if page.After != "" && errors.Is(err, dynamo.ErrInvalid) {
		err = fmt.Errorf("%w: %w", errInvalid, store.ErrCursor) // a key of another segment, or of no table
	}
	if err != nil {
		return nil, "", fault("scan", err)
	}
	for _, item := range items {
		row, err := parseScanned(item)
		if err != nil {
			return nil, "", fault("scan", err)
		}
		rows = append(rows, row)
	}
	if last != nil {
		f := dynamo.Read(last)
		key := f.Key()
		if err := f.Err(); err != nil {
			return nil, "", fault("scan", err)
		}
		next = encodeCursor(key.PK, key.SK)
	}
	return rows, next, nil
}

func (s *Store) newScan(part store.Part, page store.Page) (dynamo.Scan, error) {
	if err := checkPage(page); err != nil {
		return dynamo.Scan{}, err
	}
	if part.Segment < 0 || part.Segment >= part.Segments {
		return dynamo.Scan{}, fmt.Errorf("%w: not one of the scan's segments", errInvalid)
	}
	scan := dynamo.Scan{
		Table: s.table, Segment: int32(part.Segment), Segments: int32(part.Segments), Limit: int32(page.Limit),
		Filter: "begins_with(sk, :r)", Values: dynamo.Item{":r": dynamo.String(string(kindRecord) + "#")},
		Names:      map[string]string{"#epoch": attrEpoch, "#expires": attrExpires, "#gap": attrGap},
		Attributes: "pk,sk,#epoch,#expires,#gap",
	}
	if part.Below > 0 {
		scan.Filter += " AND #epoch < :below"
		scan.Values[":below"] = dynamo.Uint(part.Below)
	}
	if page.After != "" {
		p, err := decodeCursor(page.After, 2)
		if err != nil {
			return dynamo.Scan{}, fmt.Errorf("%w: %w", errInvalid, store.ErrCursor)
		}
		scan.From = dynamo.Item{dynamo.PK: dynamo.String(p[0]), dynamo.SK: dynamo.String(p[1])}
	}
	return scan, nil
}

func parseScanned(item dynamo.Item) (store.Row, error) {
	r, err := parseRow(item)
	if err != nil {
		return store.Row{}, err
	}
	f := dynamo.Read(item)
	row := store.Row{Key: r.Key, RingEpoch: f.Uint(attrEpoch)}
	if f.Has(attrExpires) {
		row.Expires = f.Int(attrExpires)
	}
	if gap := f.Optional(attrGap); gap != "" {
		regions, _, _ := strings.Cut(gap, "#")
		row.Missing = strings.Split(regions, ",")
	}
	return row, f.Err()
}
