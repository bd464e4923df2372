package authz

import (
	"context"
	"slices"
)

// insertBody encodes a body and inserts it everywhere.
func insertBody(ctx context.Context, tables []RegionControl, kind Kind, id string, body any) (notReached []string, err error) {
	b, err := encodeBody(body)
	if err != nil {
		return nil, err
	}
	return InsertEverywhere(ctx, tables, Item{kind, id, b})
}

// listAll reads every item of a kind. A short page may have another behind it
// (DynamoDB cuts pages at 1 MB): only an empty one is the last.
func listAll(ctx context.Context, table Control, kind Kind) ([]Item, error) {
	var all []Item
	after := ""
	for {
		page, err := table.List(ctx, kind, after, listPage)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
	}
}

// inEither lists the regions, in the order of tables, that a or b names.
func inEither(tables []RegionControl, a, b []string) (regions []string) {
	for _, t := range tables {
		if slices.Contains(a, t.Region) || slices.Contains(b, t.Region) {
			regions = append(regions, t.Region)
		}
	}
	return regions
}
