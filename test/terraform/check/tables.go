package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// table is a table's definition as the test compares it.
type table struct {
	Name    string            `json:"name"`
	Global  bool              `json:"global"`
	Keys    []string          `json:"keys"`
	Types   map[string]string `json:"types"`
	Indexes map[string]index  `json:"indexes"`
	TTL     string            `json:"ttl"`
	Stream  string            `json:"stream"`
	// Safe: recovery to a point in time, encryption and expiry are on, for replicas too.
	Safe bool `json:"safe"`
}

type index struct {
	Keys       []string `json:"keys"`
	Projection string   `json:"projection"`
}

// tablesOf evaluates the constants of module tables.
func tablesOf(dir string) ([]table, error) {
	m := newModule(dir)
	for _, file := range []string{"definitions.tf", "main.tf"} {
		if err := m.read(filepath.Join(dir, file)); err != nil {
			return nil, err
		}
	}
	if len(m.findings) > 0 {
		return nil, fmt.Errorf("%s", m.findings[0])
	}
	values := map[string]cty.Value{}
	for name, a := range m.locals {
		if v, diags := a.Expr.Value(nil); !diags.HasErrors() {
			values[name] = v
		}
	}
	for _, need := range []string{"hash_key", "range_key", "ttl_attribute", "numbers", "indexes", "global_tables", "regional_tables"} {
		if _, ok := values[need]; !ok {
			return nil, fmt.Errorf("%s: no local.%s", dir, need)
		}
	}
	var tables []table
	for _, kind := range []string{"global", "regional"} {
		resource := m.resources["aws_dynamodb_table."+kind]
		if resource == nil {
			return nil, fmt.Errorf("%s: no aws_dynamodb_table.%s", dir, kind)
		}
		for _, name := range list(values[kind+"_tables"]) {
			tables = append(tables, define(name, kind == "global", values).as(resource.Body))
		}
	}
	return tables, nil
}

// as adds what the resource itself says of all its tables.
func (t table) as(body *hclsyntax.Body) table {
	t.Stream = literal(body.Attributes["stream_view_type"])
	for name, x := range t.Indexes {
		x.Projection = literal(attribute(body, "global_secondary_index", "projection_type"))
		t.Indexes[name] = x
	}
	t.Safe = isTrue(attribute(body, "point_in_time_recovery", "enabled")) && isTrue(attribute(body, "server_side_encryption", "enabled")) &&
		isTrue(attribute(body, "ttl", "enabled")) && attribute(body, "server_side_encryption", "kms_key_arn") != nil &&
		body.Attributes["deletion_protection_enabled"] != nil
	if t.Global {
		t.Safe = t.Safe && isTrue(body.Attributes["stream_enabled"]) && isTrue(attribute(body, "replica", "point_in_time_recovery")) &&
			attribute(body, "replica", "kms_key_arn") != nil && attribute(body, "replica", "deletion_protection_enabled") != nil
	}
	return t
}

// attribute is one of a nested block, dynamic or not.
func attribute(body *hclsyntax.Body, block, name string) *hclsyntax.Attribute {
	for _, b := range body.Blocks {
		switch {
		case b.Type == block:
			return b.Body.Attributes[name]
		case b.Type == "dynamic" && b.Labels[0] == block && contentOf(b) != nil:
			return contentOf(b).Attributes[name]
		}
	}
	return nil
}

func isTrue(a *hclsyntax.Attribute) bool {
	if a == nil {
		return false
	}
	v, diags := a.Expr.Value(nil)
	return !diags.HasErrors() && v.RawEquals(cty.True)
}

func define(name string, global bool, values map[string]cty.Value) table {
	t := table{
		Name: name, Global: global, TTL: values["ttl_attribute"].AsString(), Types: map[string]string{}, Indexes: map[string]index{},
		Keys: []string{values["hash_key"].AsString(), values["range_key"].AsString()},
	}
	numbers := list(values["numbers"])
	note := func(keys []string) {
		for _, k := range keys {
			t.Types[k] = "S"
			if slices.Contains(numbers, k) {
				t.Types[k] = "N"
			}
		}
	}
	note(t.Keys)
	if !values["indexes"].Type().HasAttribute(name) {
		return t
	}
	for _, x := range values["indexes"].GetAttr(name).AsValueSlice() {
		keys := []string{x.GetAttr("hash").AsString(), x.GetAttr("range").AsString()}
		t.Indexes[x.GetAttr("name").AsString()] = index{Keys: keys}
		note(keys)
	}
	return t
}

func list(v cty.Value) []string {
	var out []string
	for _, e := range v.AsValueSlice() {
		out = append(out, e.AsString())
	}
	return out
}
