package vault

import (
	"context"

	"piivault/internal/authz"
)

// listPage is how many control items are listed at once.
const listPage = 500

// eachItem calls fn for every item of a kind whose id is after one, in order,
// until there are no more or fn fails.
func eachItem(ctx context.Context, control authz.Control, kind authz.Kind, after string, fn func(authz.Item) error) error {
	for {
		items, err := control.List(ctx, kind, after, listPage)
		if err != nil {
			return err
		}
		for _, item := range items {
			after = item.ID
			if err := fn(item); err != nil {
				return err
			}
		}
		if len(items) < listPage {
			return nil
		}
	}
}
