package authz

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/go-json-experiment/json"
)

// checkNames refuses a policy that names a role or a vault that cannot exist,
// wherever in it: it would silently never match. cedar-go 1.9's validator
// checks the types of entities and not the names of enumerated ones.
func checkNames(policy *cedar.Policy, roles []Role) error {
	b, err := policy.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write the policy as JSON: %w", err)
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		return fmt.Errorf("read the policy as JSON: %w", err)
	}
	return checkNode(tree, roles)
}

// checkNode walks Cedar's JSON policy format, where an entity is an object of
// a type and an id, and nothing else is.
func checkNode(node any, roles []Role) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkNode(child, roles); err != nil {
				return err
			}
		}
	case map[string]any:
		typ, _ := n["type"].(string)
		id, isEntity := n["id"].(string)
		switch {
		case !isEntity:
		case typ == string(typeRole) && !slices.Contains(roles, Role(id)):
			return fmt.Errorf("unknown role %q", id)
		case typ == string(typeVault) && id != vaultID:
			return fmt.Errorf("unknown vault %q", id)
		}
		for _, child := range n {
			if err := checkNode(child, roles); err != nil {
				return err
			}
		}
	}
	return nil
}
