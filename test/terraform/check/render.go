package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// render evaluates the example's local.configs as Terraform does: region to
// vault.yaml. given are the example's variables over their defaults; keys and
// account are made up, everything else comes from the modules' own expressions.
func render(example string, given map[string]cty.Value) (map[string]string, error) {
	m, err := readDir(example)
	if err != nil {
		return nil, err
	}
	vars, err := m.values(given)
	if err != nil {
		return nil, err
	}
	called := map[string]cty.Value{}
	for _, call := range []string{"keys", "tables"} {
		if called[call], err = m.outputsOf(call, vars); err != nil {
			return nil, err
		}
	}
	configs := m.locals["configs"]
	if configs == nil {
		return nil, fmt.Errorf("%s: no local.configs", example)
	}
	value, err := evaluate(configs.Expr, map[string]cty.Value{"var": vars, "module": cty.ObjectVal(called)})
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for region, text := range value.AsValueMap() {
		files[region] = text.AsString()
	}
	return files, nil
}

func readDir(dir string) (*module, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	m := newModule(dir)
	for _, file := range files {
		if err := m.read(file); err != nil {
			return nil, err
		}
	}
	if len(m.findings) > 0 {
		return nil, fmt.Errorf("%s", m.findings[0])
	}
	return m, nil
}

// values are the module's variables: given ones, else their defaults, members
// of objects too where optional(type, default) names one.
func (m *module) values(given map[string]cty.Value) (cty.Value, error) {
	all := map[string]cty.Value{}
	for name, block := range m.variables {
		value, ok := given[name]
		if !ok {
			a := block.Body.Attributes["default"]
			if a == nil {
				continue // what is not evaluated needs none
			}
			var err error
			if value, err = evaluate(a.Expr, nil); err != nil {
				return cty.NilVal, err
			}
		}
		if value.Type().IsObjectType() {
			members := value.AsValueMap()
			for member, fallback := range optionals(block) {
				if _, set := members[member]; !set {
					if members == nil {
						members = map[string]cty.Value{}
					}
					members[member] = fallback
				}
			}
			value = cty.ObjectVal(members)
		}
		all[name] = value
	}
	return cty.ObjectVal(all), nil
}

// optionals are the defaults in type = object({member = optional(type, default)}).
func optionals(variable *hclsyntax.Block) map[string]cty.Value {
	defaults := map[string]cty.Value{}
	object, ok := variable.Body.Attributes["type"].Expr.(*hclsyntax.FunctionCallExpr)
	if !ok || object.Name != "object" {
		return defaults
	}
	members, ok := object.Args[0].(*hclsyntax.ObjectConsExpr)
	if !ok {
		return defaults
	}
	for _, item := range members.Items {
		name, diags := item.KeyExpr.Value(nil)
		call, ok := item.ValueExpr.(*hclsyntax.FunctionCallExpr)
		if !ok || call.Name != "optional" || len(call.Args) != 2 || diags.HasErrors() {
			continue
		}
		if value, diags := call.Args[1].Value(nil); !diags.HasErrors() {
			defaults[name.AsString()] = value
		}
	}
	return defaults
}

// outputsOf evaluates those outputs of a module that the example is given: with
// its arguments, its constant locals and, for keys, an ARN a region.
func (m *module) outputsOf(call string, vars cty.Value) (cty.Value, error) {
	block := m.calls[call]
	if block == nil {
		return cty.NilVal, fmt.Errorf("%s: no module %s", m.dir, call)
	}
	callee, err := readDir(filepath.Join(m.dir, literal(block.Body.Attributes["source"])))
	if err != nil {
		return cty.NilVal, err
	}
	arguments := map[string]cty.Value{}
	for name, a := range block.Body.Attributes {
		if value, err := evaluate(a.Expr, map[string]cty.Value{"var": vars}); err == nil {
			arguments[name] = value
		}
	}
	own, err := callee.values(arguments)
	if err != nil {
		return cty.NilVal, err
	}
	locals := map[string]cty.Value{"ring": ringOf(own)}
	for name, a := range callee.locals {
		if value, err := evaluate(a.Expr, map[string]cty.Value{"var": own}); err == nil {
			locals[name] = value
		}
	}
	outputs := map[string]cty.Value{}
	for name, output := range callee.outputs {
		value, err := evaluate(output.Body.Attributes["value"].Expr, map[string]cty.Value{"var": own, "local": cty.ObjectVal(locals)})
		if err == nil {
			outputs[name] = value
		}
	}
	return cty.ObjectVal(outputs), nil
}

// ringOf makes up what KMS would name the keys.
func ringOf(vars cty.Value) cty.Value {
	members := vars.AsValueMap()
	id := func(region string) string { return "key/" + region }
	if mode, ok := members["mode"]; ok && mode.AsString() == "multi_region" {
		id = func(string) string { return "key/mrk-00000000000000000000000000000001" }
	}
	ring := map[string]cty.Value{}
	for _, region := range members["regions"].AsValueSlice() {
		name := region.AsString()
		ring[name] = cty.StringVal("arn:aws:kms:" + name + ":111122223333:" + id(name))
	}
	return cty.ObjectVal(ring)
}

func evaluate(e hcl.Expression, variables map[string]cty.Value) (cty.Value, error) {
	value, diags := e.Value(&hcl.EvalContext{Variables: variables, Functions: map[string]function.Function{
		"concat": stdlib.ConcatFunc, "merge": stdlib.MergeFunc, "replace": stdlib.ReplaceFunc, "yamlencode": ctyyaml.YAMLEncodeFunc,
	}})
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return value, nil
}

// variablesOf are those that every use of the example must give, and over them others.
func variablesOf(others map[string]cty.Value) map[string]cty.Value {
	given := map[string]cty.Value{"env": cty.StringVal("prod"), "settings": cty.EmptyObjectVal}
	maps.Copy(given, others)
	return given
}

// variants are configurations that the example can make.
func variants() map[string]map[string]cty.Value {
	object := func(pairs ...string) cty.Value {
		members := map[string]cty.Value{}
		for pair := range slices.Chunk(pairs, 2) {
			members[pair[0]] = cty.StringVal(pair[1])
		}
		return cty.ObjectVal(members)
	}
	return map[string]map[string]cty.Value{
		"defaults":     variablesOf(nil),
		"two_regions":  variablesOf(map[string]cty.Value{"durability": cty.StringVal("two_regions")}),
		"multi_region": variablesOf(map[string]cty.Value{"ring": object("mode", "multi_region")}),
		"settings": variablesOf(map[string]cty.Value{"settings": cty.ObjectVal(map[string]cty.Value{
			"log":   object("level", "warn"),
			"types": cty.TupleVal([]cty.Value{object("name", "mail", "kind", "email")}),
		})}),
	}
}
