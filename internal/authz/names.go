package authz

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/go-json-experiment/json"
)

// checkNames refuses a policy that names a role, a vault or a claim that
// cannot exist, wherever in it: it would silently never match. cedar-go 1.9's
// validator checks the types of entities and not the names of enumerated ones,
// and takes `has` of what is not declared for what is never so.
func checkNames(policy *cedar.Policy, roles []Role, claims ClaimTypes) error {
	b, err := policy.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write the policy as JSON: %w", err)
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		return fmt.Errorf("read the policy as JSON: %w", err)
	}
	return checkNode(tree, roles, claims)
}

// checkNode walks Cedar's JSON policy format, where an entity is an object of
// a type and an id, and nothing else is.
func checkNode(node any, roles []Role, claims ClaimTypes) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkNode(child, roles, claims); err != nil {
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
		if name, asked := askedClaim(n); asked && claims[name] == "" {
			return fmt.Errorf("claim %q is not declared", name)
		}
		for _, child := range n {
			if err := checkNode(child, roles, claims); err != nil {
				return err
			}
		}
	}
	return nil
}

// askedClaim is the x of `… .claims has x`.
func askedClaim(node map[string]any) (name string, asked bool) {
	has, _ := node["has"].(map[string]any)
	left, _ := has["left"].(map[string]any)
	of, _ := left["."].(map[string]any)
	name, _ = has["attr"].(string)
	return name, of["attr"] == "claims"
}
