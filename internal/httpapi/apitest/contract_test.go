package apitest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"piivault/internal/httpapi/apitest"
)

// open operations need no credential.
var open = map[string]bool{"livez": true, "readyz": true, "getMetrics": true, "getContract": true}

func TestEveryOperationIsDescribed(t *testing.T) {
	doc := apitest.Load(t)
	seen := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			where := method + " " + path
			if !regexp.MustCompile(`^[a-z]+([A-Z][a-z]+)*$`).MatchString(op.OperationID) || seen[op.OperationID] {
				t.Errorf("%s: operationId %q is taken or not camelCase", where, op.OperationID)
			}
			seen[op.OperationID] = true
			if op.Summary == "" || op.Description == "" || len(op.Tags) != 1 {
				t.Errorf("%s: summary, description or tag is missing", where)
			}
			secured := op.Security == nil // then the document's
			if secured == open[op.OperationID] {
				t.Errorf("%s: needs a credential: %v", where, secured)
			}
			checkResponses(t, where, op, secured)
			for _, p := range op.Parameters {
				// URLs end up in logs; a place in a table tells of tenants and HMACs only.
				cursor := p.Value.In == "query" && p.Value.Name == "cursor"
				if p.Value.In != "header" && !cursor {
					t.Errorf("%s: parameter %s is in the URL", where, p.Value.Name)
				}
			}
			if op.RequestBody != nil {
				checkContent(t, where, op.RequestBody.Value.Content)
			}
		}
	}
	if len(doc.Security) != 1 || len(seen) != 24 {
		t.Errorf("the document has security %v and %d operations", doc.Security, len(seen))
	}
}

func checkResponses(t *testing.T, where string, op *openapi3.Operation, secured bool) {
	t.Helper()
	var want []string
	if secured {
		want = append(want, "401", "403", "500", "503")
	}
	if op.RequestBody != nil {
		want = append(want, "400", "413", "415", "422")
	}
	for _, status := range want {
		r := op.Responses.Value(status)
		if r == nil || r.Value.Content["application/problem+json"] == nil {
			t.Errorf("%s: %s is not a documented problem", where, status)
		}
	}
	for status, r := range op.Responses.Map() {
		at := where + " " + status
		if *r.Value.Description == "" {
			t.Errorf("%s: no description", at)
		}
		if secured && r.Value.Headers["X-Request-Id"] == nil {
			t.Errorf("%s: X-Request-Id is missing", at)
		}
		if (status == "503" && secured || status == "429") && r.Value.Headers["Retry-After"] == nil {
			t.Errorf("%s: Retry-After is missing", at)
		}
		if len(r.Value.Content) > 0 {
			checkContent(t, at, r.Value.Content)
		} else if status != "202" {
			t.Errorf("%s: no content", at)
		}
	}
}

func checkContent(t *testing.T, where string, content openapi3.Content) {
	t.Helper()
	for media, c := range content {
		if len(c.Examples) == 0 {
			t.Errorf("%s: %s has no example", where, media)
		}
		if strings.HasSuffix(media, "json") && c.Schema.Ref == "" {
			t.Errorf("%s: %s has an anonymous schema", where, media)
		}
	}
}

// Generators name what has a name; strict requests have limits.
func TestSchemasAreNamedAndBounded(t *testing.T) {
	doc := apitest.Load(t)
	requests := map[string]bool{}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody != nil {
				reach(doc, op.RequestBody.Value.Content["application/json"].Schema.Ref, requests)
			}
		}
	}
	for name, schema := range doc.Components.Schemas {
		s := schema.Value
		if s.Description == "" || len(s.OneOf)+len(s.AnyOf)+len(s.AllOf) > 0 {
			t.Errorf("%s: no description, or a composition", name)
		}
		strict := s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has
		if s.Type.Is("object") && strict != requests[name] {
			t.Errorf("%s: additionalProperties: false is %v", name, strict)
		}
		for property, p := range s.Properties {
			at := name + "." + property
			checkProperty(t, at, p, requests[name])
			if p.Value.Description == "" && p.Value.Items == nil {
				t.Errorf("%s: no description", at)
			}
		}
	}
}

func checkProperty(t *testing.T, at string, p *openapi3.SchemaRef, request bool) {
	t.Helper()
	v := p.Value
	switch {
	case p.Ref != "":
	case v.Type.Is("object"):
		t.Errorf("%s: an anonymous object", at)
	case v.Type.Is("array"):
		if request && v.MaxItems == nil {
			t.Errorf("%s: no maxItems", at)
		}
		checkProperty(t, at+"[]", v.Items, request)
	case v.Type.Is("string") && request && v.MaxLength == nil && v.Format != "date-time":
		t.Errorf("%s: no maxLength", at)
	case v.Type.Is("integer") && (v.Min == nil || v.Format == ""):
		t.Errorf("%s: no minimum or format", at)
	}
}

// reach marks the object schemas that a request consists of.
func reach(doc *openapi3.T, ref string, seen map[string]bool) {
	name := ref[strings.LastIndex(ref, "/")+1:]
	seen[name] = true
	for _, p := range doc.Components.Schemas[name].Value.Properties {
		if p.Ref != "" {
			reach(doc, p.Ref, seen)
		}
		if p.Value.Items != nil && p.Value.Items.Ref != "" {
			reach(doc, p.Value.Items.Ref, seen)
		}
	}
}

// Every code that the code can answer is documented, and no other.
func TestEveryCodeIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, rows := range apitest.CodesOf(apitest.Load(t)) {
		for _, r := range rows {
			documented[r.Code] = true
		}
	}
	answered := map[string]string{}
	for _, pkg := range []string{"vault", "pii", "httpapi"} {
		codesIn(t, filepath.Join("..", "..", pkg), answered)
	}
	for code, where := range answered {
		if !documented[code] {
			t.Errorf("%s: code %q is not in openapi.yaml", where, code)
		}
	}
	for code := range documented {
		if answered[code] == "" && code != "over_budget" {
			t.Errorf("nothing answers %q, which is in openapi.yaml", code)
		}
	}
}

// carriers are functions whose first argument is a code.
var carriers = map[string]bool{"invalid": true, "unavailable": true, "refuse": true, "malformed": true, "unprocessable": true}

func codesIn(t *testing.T, dir string, found map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no code in %s: %v", dir, err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, e := range codeExpressions(n) {
				if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					if code, _ := strconv.Unquote(literal.Value); code != "" {
						found[code] = set.Position(literal.Pos()).String()
					}
				}
			}
			return true
		})
	}
}

// codeExpressions are the places of a node that hold codes: a field Code or
// code, a constant Code…, the first argument of a carrier, what …Code returns.
func codeExpressions(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, "code") {
			return []ast.Expr{n.Value}
		}
	case *ast.AssignStmt:
		if field, ok := n.Lhs[0].(*ast.SelectorExpr); ok && field.Sel.Name == "Code" {
			return n.Rhs
		}
	case *ast.ValueSpec:
		if strings.HasPrefix(n.Names[0].Name, "Code") {
			return n.Values
		}
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if carriers[name] && len(n.Args) > 0 {
			return n.Args[:1]
		}
	case *ast.FuncDecl:
		if strings.HasSuffix(n.Name.Name, "Code") {
			return returned(n)
		}
	}
	return nil
}

func returned(f *ast.FuncDecl) (values []ast.Expr) {
	ast.Inspect(f, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok {
			values = append(values, r.Results...)
		}
		return true
	})
	return values
}
