package secret_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// G4: below the HTTP layer a value stays in bytes, which can be wiped. The
// linter keeps all but a few files from looking inside one (.golangci.yml,
// forbidigo); in those, and where a request's body is read, every conversion
// to a string that may outlive its expression is known and has a reason.
func TestG4ValuesStayOutOfStrings(t *testing.T) {
	known := map[string]string{
		"internal/pii/kinds.go countryOf":          "a country code",
		"internal/pii/iban.go ibanCode":            "a country code",
		"internal/pii/mask.go MaskExample":         "an example that is nobody's",
		"internal/pii/token.go Text":               "a token: it travels as text",
		"internal/pii/phone.go normalizePhone":     "the library reads strings; Normalize says so",
		"internal/pii/digits.go normalizeIP":       "the library reads strings; Normalize says so",
		"internal/pii/mask.go maskIP":              "the library reads strings; Normalize says so",
		"internal/pii/email.go withDomain":         "the library reads strings; Normalize says so",
		"internal/httpapi/scan.go hexEscape":       "the four digits of an escape",
		"internal/httpapi/pointer.go emptyMember":  "a path of the contract's members",
		"internal/httpapi/pointer.go knownPointer": "a path of the contract's members",
	}
	seen := map[string]bool{}
	for _, pattern := range []string{
		"internal/pii/*.go", "internal/crypto/inner.go", "internal/crypto/seal.go", "internal/crypto/tenant.go",
		"api/value.go", "internal/httpapi/buffer.go", "internal/httpapi/decode.go", "internal/httpapi/pointer.go", "internal/httpapi/scan.go",
	} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files (%v)", pattern, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, function := range stringsMade(t, file, nil) {
				place := path.Join(path.Dir(pattern), filepath.Base(file)) + " " + function
				if seen[place] = true; known[place] == "" {
					t.Errorf("%s makes a string of bytes: a value in it could not be wiped", place)
				}
			}
		}
	}
	for place := range known {
		if !seen[place] {
			t.Errorf("%s makes no string any more", place)
		}
	}
}

func TestStringsMadeAreFound(t *testing.T) {
	const source = `package p
func f(b []byte, m map[string]int) string { if string(b) == "x" || m[string(b)] > 0 { return "" }; return g(string(b)) }
func (T) g(b []byte) string { return "a" + string(b) }
func h(b []byte) { var s strings.Builder; s.Write(b) }
func i(b []byte) any { return fmt.Sprintf("%s", b) }
`
	if got := stringsMade(t, "p.go", source); !slices.Equal(got, []string{"f", "g", "h", "i"}) {
		t.Errorf("found in %q", got)
	}
}

// stringsMade names the functions of a file that convert to string, but for a
// comparison or a look-up, which make no copy; that use a strings.Builder; or
// that format.
func stringsMade(t *testing.T, file string, source any) (functions []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		passing := map[ast.Expr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				passing[n.X], passing[n.Y] = n.Op != token.ADD, n.Op != token.ADD
			case *ast.IndexExpr:
				passing[n.Index] = true
			case *ast.CallExpr:
				if to, ok := n.Fun.(*ast.Ident); ok && to.Name == "string" && !passing[n] {
					functions = append(functions, f.Name.Name)
				}
			case *ast.SelectorExpr:
				if of, ok := n.X.(*ast.Ident); ok && makesStrings(of.Name, n.Sel.Name) {
					functions = append(functions, f.Name.Name)
				}
			}
			return true
		})
	}
	return slices.Compact(functions)
}

func makesStrings(pkg, name string) bool {
	return pkg == "strings" && name == "Builder" || pkg == "unsafe" && name == "String" ||
		pkg == "fmt" && (strings.HasPrefix(name, "Sprint") || strings.HasPrefix(name, "Append"))
}
