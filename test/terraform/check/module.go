package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// module is one directory's blocks, by what references call them.
type module struct {
	dir       string
	bodies    []*hclsyntax.Body
	variables map[string]*hclsyntax.Block
	outputs   map[string]*hclsyntax.Block
	locals    map[string]*hclsyntax.Attribute
	calls     map[string]*hclsyntax.Block
	resources map[string]*hclsyntax.Block // "aws_x.y", "data.aws_x.y"
	terraform []*hclsyntax.Block
	findings  []string
}

func (m *module) found(at hcl.Range, format string, args ...any) {
	m.findings = append(m.findings, fmt.Sprintf("%s:%d: %s", at.Filename, at.Start.Line, fmt.Sprintf(format, args...)))
}

// checkAll checks every module below root, and their calls of each other.
func checkAll(root string, s *schema) ([]string, error) {
	modules := map[string]*module{}
	var tests []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".terraform" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, ".tftest.hcl") {
			tests = append(tests, path)
		}
		if filepath.Ext(path) != ".tf" {
			return nil
		}
		dir := filepath.Dir(path)
		if modules[dir] == nil {
			modules[dir] = newModule(dir)
		}
		return modules[dir].read(path)
	})
	if err != nil {
		return nil, err
	}
	if len(modules) == 0 {
		return nil, fmt.Errorf("no module below %s", root)
	}
	var findings []string
	for _, path := range tests {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		findings = append(findings, unformatted(path, text)...)
	}
	for _, m := range modules {
		m.checkDeclarations()
		m.checkReferences(modules, s)
		m.checkCalls(modules)
		m.checkResources(s)
		findings = append(findings, m.findings...)
	}
	slices.Sort(findings)
	return slices.Compact(findings), nil
}

func newModule(dir string) *module {
	return &module{
		dir: dir, variables: map[string]*hclsyntax.Block{}, outputs: map[string]*hclsyntax.Block{}, locals: map[string]*hclsyntax.Attribute{},
		calls: map[string]*hclsyntax.Block{}, resources: map[string]*hclsyntax.Block{},
	}
}

func (m *module) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, diags := hclparse.NewParser().ParseHCL(text, path)
	for _, d := range diags {
		m.findings = append(m.findings, d.Error())
	}
	if diags.HasErrors() {
		return nil
	}
	m.findings = append(m.findings, unformatted(path, text)...)
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return fmt.Errorf("%s: not native syntax", path)
	}
	m.bodies = append(m.bodies, body)
	for _, b := range body.Blocks {
		m.declare(b)
	}
	return nil
}

// unformatted says whether `terraform fmt` would move anything. Of its further
// rules, such as `"${x}"` to `x`, nothing is looked at.
func unformatted(path string, text []byte) []string {
	if bytes.Equal(hclwrite.Format(text), text) {
		return nil
	}
	return []string{path + ": not formatted: run terraform fmt"}
}

func (m *module) declare(b *hclsyntax.Block) {
	name := strings.Join(b.Labels, ".")
	kinds := map[string]map[string]*hclsyntax.Block{"variable": m.variables, "output": m.outputs, "module": m.calls, "resource": m.resources}
	switch {
	case b.Type == "terraform":
		m.terraform = append(m.terraform, b)
	case b.Type == "locals":
		for _, a := range b.Body.Attributes {
			if m.locals[a.Name] != nil {
				m.found(a.SrcRange, "local.%s is declared twice", a.Name)
			}
			m.locals[a.Name] = a
		}
	case b.Type == "data":
		m.add(m.resources, "data."+name, b)
	case kinds[b.Type] != nil:
		m.add(kinds[b.Type], name, b)
	case b.Type != "provider":
		m.found(b.TypeRange, "a block of type %s is not known here", b.Type)
	}
}

func (m *module) add(to map[string]*hclsyntax.Block, name string, b *hclsyntax.Block) {
	if to[name] != nil {
		m.found(b.TypeRange, "%s %s is declared twice", b.Type, name)
	}
	to[name] = b
}

// checkDeclarations wants types, descriptions and pinned versions.
func (m *module) checkDeclarations() {
	for name, b := range m.variables {
		for _, need := range []string{"type", "description"} {
			if b.Body.Attributes[need] == nil {
				m.found(b.TypeRange, "variable %s has no %s", name, need)
			}
		}
	}
	for name, b := range m.outputs {
		for _, need := range []string{"value", "description"} {
			if b.Body.Attributes[need] == nil {
				m.found(b.TypeRange, "output %s has no %s", name, need)
			}
		}
	}
	for _, b := range m.terraform {
		for _, inner := range b.Body.Blocks {
			if inner.Type == "required_providers" && inner.Body.Attributes["aws"] != nil && b.Body.Attributes["required_version"] != nil {
				return
			}
		}
	}
	m.findings = append(m.findings, m.dir+": Terraform's or the provider's version is not pinned")
}
