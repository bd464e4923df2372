package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// schema is schema.json, written by schema.py.
type schema struct {
	Resource, Data map[string]resourceSchema
}

type resourceSchema struct {
	blockSchema

	Readable []string
}

type blockSchema struct {
	// Attributes tells of each whether it is required.
	Attributes       map[string]bool
	Blocks           map[string]blockSchema
	Required, Single bool
}

func readSchema(file string) (*schema, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := new(schema)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// checkResources compares every resource's arguments with the provider's schema.
func (m *module) checkResources(s *schema) {
	for name, b := range m.resources {
		known := s.Resource
		if b.Type == "data" {
			known = s.Data
		}
		r, ok := known[b.Labels[0]]
		if !ok {
			m.found(b.TypeRange, "%s: the schema does not hold it: run schema.py", name)
			continue
		}
		m.checkBody(name, b.Body, b.TypeRange, r.blockSchema, []string{"for_each", "count", "depends_on", "provider"})
	}
}

func (m *module) checkBody(name string, body *hclsyntax.Body, at hcl.Range, s blockSchema, meta []string) {
	for argument, a := range body.Attributes {
		if _, ok := s.Attributes[argument]; !ok && !slices.Contains(meta, argument) {
			m.found(a.SrcRange, "%s takes no argument %s", name, argument)
		}
	}
	for argument, required := range s.Attributes {
		if required && body.Attributes[argument] == nil {
			m.found(at, "%s needs the argument %s", name, argument)
		}
	}
	count := map[string]int{}
	for _, b := range body.Blocks {
		if b.Type == "lifecycle" && meta != nil {
			continue
		}
		kind, content := b.Type, b.Body
		if kind == "dynamic" {
			kind, content = b.Labels[0], contentOf(b)
		}
		inner, ok := s.Blocks[kind]
		if !ok || content == nil {
			m.found(b.TypeRange, "%s takes no block %s", name, kind)
			continue
		}
		count[kind]++
		m.checkBody(name+"."+kind, content, b.TypeRange, inner, nil)
	}
	for kind, inner := range s.Blocks {
		if inner.Required && count[kind] == 0 || inner.Single && count[kind] > 1 {
			m.found(at, "%s has %d blocks %s", name, count[kind], kind)
		}
	}
}

func contentOf(dynamic *hclsyntax.Block) *hclsyntax.Body {
	for _, b := range dynamic.Body.Blocks {
		if b.Type == "content" {
			return b.Body
		}
	}
	return nil
}
