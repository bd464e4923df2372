package main

import (
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// checkReferences follows every reference of the module, and wants everything
// that is declared to be used.
func (m *module) checkReferences(modules map[string]*module, s *schema) {
	used := map[string]bool{}
	for _, body := range m.bodies {
		for _, b := range body.Blocks {
			own := ""
			if b.Type == "variable" {
				own = "var." + b.Labels[0] // its validation does not count as use
			}
			m.walk(b.Body, nil, func(t hcl.Traversal) {
				if target := m.resolve(t, modules, s); target != own {
					used[target] = true
				}
			})
		}
	}
	for name, b := range m.variables {
		if !used["var."+name] {
			m.found(b.TypeRange, "variable %s is not used", name)
		}
	}
	for name, a := range m.locals {
		if !used["local."+name] {
			m.found(a.SrcRange, "local.%s is not used", name)
		}
	}
	for name, b := range m.resources {
		if b.Type == "data" && !used[name] {
			m.found(b.TypeRange, "%s is not used", name)
		}
	}
}

// walk gives fn every traversal in the body but those of the iterators of
// dynamic blocks.
func (m *module) walk(body *hclsyntax.Body, iterators []string, fn func(hcl.Traversal)) {
	for name, a := range body.Attributes {
		if name == "type" && len(a.Expr.Variables()) > 0 && slices.ContainsFunc(m.variableBodies(), func(b *hclsyntax.Body) bool { return b == body }) {
			continue // string, list: words of types
		}
		if name == "ignore_changes" {
			continue // words of the resource's own arguments
		}
		for _, t := range a.Expr.Variables() {
			if !slices.Contains(iterators, t.RootName()) {
				fn(t)
			}
		}
	}
	for _, b := range body.Blocks {
		inner := iterators
		if b.Type == "dynamic" {
			inner = append(slices.Clone(iterators), b.Labels[0])
		}
		m.walk(b.Body, inner, fn)
	}
}

func (m *module) variableBodies() []*hclsyntax.Body {
	var bodies []*hclsyntax.Body
	for _, b := range m.variables {
		bodies = append(bodies, b.Body)
	}
	return bodies
}

// resolve names what t refers to, and reports what is not there.
func (m *module) resolve(t hcl.Traversal, modules map[string]*module, s *schema) string {
	root, at := t.RootName(), t.SourceRange()
	name, rest := step(t, 1)
	switch root {
	case "each", "count", "self", "path", "terraform":
		return ""
	case "var":
		if m.variables[name] == nil {
			m.found(at, "var.%s is not declared", name)
		}
	case "local":
		if m.locals[name] == nil {
			m.found(at, "local.%s is not declared", name)
		}
	case "module":
		m.resolveOutput(name, rest, at, modules)
	case "data":
		resource, _ := step(t, 2)
		target := "data." + name + "." + resource
		m.resolveResource(target, name, attributeAfter(t, 3), at, s.Data)
		return target
	default:
		m.resolveResource(root+"."+name, root, attributeAfter(t, 2), at, s.Resource)
	}
	return root + "." + name
}

func (m *module) resolveResource(target, kind, attribute string, at hcl.Range, known map[string]resourceSchema) {
	if m.resources[target] == nil {
		m.found(at, "%s is not declared", target)
		return
	}
	if r, ok := known[kind]; ok && attribute != "" && !slices.Contains(r.Readable, attribute) {
		m.found(at, "%s has no attribute %s", target, attribute)
	}
}

func (m *module) resolveOutput(call string, rest hcl.Traversal, at hcl.Range, modules map[string]*module) {
	b := m.calls[call]
	if b == nil {
		m.found(at, "module.%s is not declared", call)
		return
	}
	callee := modules[filepath.Join(m.dir, literal(b.Body.Attributes["source"]))]
	output := attributeAfter(rest, 0)
	if callee != nil && output != "" && callee.outputs[output] == nil {
		m.found(at, "module.%s has no output %s", call, output)
	}
}

// step is the name at a step of t, "" where there is none, and what follows it.
func step(t hcl.Traversal, i int) (string, hcl.Traversal) {
	if i >= len(t) {
		return "", nil
	}
	if a, ok := t[i].(hcl.TraverseAttr); ok {
		return a.Name, t[i+1:]
	}
	return "", t[i+1:]
}

// attributeAfter is the first name from step i on, past one index.
func attributeAfter(t hcl.Traversal, i int) string {
	if i < len(t) {
		if _, index := t[i].(hcl.TraverseIndex); index {
			i++
		}
	}
	name, _ := step(t, i)
	return name
}

// checkCalls compares arguments of modules with their variables.
func (m *module) checkCalls(modules map[string]*module) {
	meta := []string{"source", "for_each", "count", "depends_on", "providers", "version"}
	for name, b := range m.calls {
		callee := modules[filepath.Join(m.dir, literal(b.Body.Attributes["source"]))]
		if callee == nil {
			m.found(b.TypeRange, "module %s: its source is not among the modules", name)
			continue
		}
		for argument, a := range b.Body.Attributes {
			if callee.variables[argument] == nil && !slices.Contains(meta, argument) {
				m.found(a.SrcRange, "module %s has no variable %s", name, argument)
			}
		}
		for variable, v := range callee.variables {
			if v.Body.Attributes["default"] == nil && b.Body.Attributes[variable] == nil {
				m.found(b.TypeRange, "module %s needs %s", name, variable)
			}
		}
	}
}

// literal is a constant string, "" for anything else.
func literal(a *hclsyntax.Attribute) string {
	if a == nil {
		return ""
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type().FriendlyName() != "string" {
		return ""
	}
	return v.AsString()
}
