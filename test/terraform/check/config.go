package main

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// configKeys are the keys of the vault.yaml that the example makes, dotted,
// as far as they are written there and not given by a module.
func configKeys(dir string) ([]string, error) {
	m := newModule(dir)
	if err := m.read(dir + "/main.tf"); err != nil {
		return nil, err
	}
	configs := m.locals["configs"]
	if configs == nil {
		return nil, fmt.Errorf("%s: no local.configs", dir)
	}
	var keys []string
	diags := hclsyntax.VisitAll(configs, func(node hclsyntax.Node) (none hcl.Diagnostics) {
		if call, ok := node.(*hclsyntax.FunctionCallExpr); ok && call.Name == "merge" {
			for _, argument := range call.Args {
				keys = append(keys, objectKeys("", argument)...)
			}
		}
		return none
	})
	if diags.HasErrors() {
		return nil, diags
	}
	slices.Sort(keys)
	return keys, nil
}

func objectKeys(prefix string, e hclsyntax.Expression) []string {
	object, ok := e.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return nil
	}
	var keys []string
	for _, item := range object.Items {
		key, diags := item.KeyExpr.Value(nil)
		if diags.HasErrors() {
			continue
		}
		name := prefix + key.AsString()
		keys = append(append(keys, name), objectKeys(name+".", item.ValueExpr)...)
	}
	return keys
}
