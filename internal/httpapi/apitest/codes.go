package apitest

import (
	"regexp"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3"
)

// Code is a row of a table of codes. Status 0 stands for any.
type Code struct {
	Status int
	Code   string
}

// Codes are the documented codes: the common table under "", each operation's
// under its method and path.
type Codes map[string][]Code

var row = regexp.MustCompile("(?m)^\\| (\\d{3}|any) \\| `([a-z0-9_]+)` \\| .+ \\|$")

// CodesOf reads the tables in the contract's descriptions.
func CodesOf(doc *openapi3.T) Codes {
	codes := Codes{"": table(doc.Info.Description)}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			codes[method+" "+path] = table(operation.Description)
		}
	}
	return codes
}

func table(description string) []Code {
	var codes []Code
	for _, cells := range row.FindAllStringSubmatch(description, -1) {
		status, _ := strconv.Atoi(cells[1]) // "any" is 0
		codes = append(codes, Code{status, cells[2]})
	}
	return codes
}

// Documented looks a code up in an operation's table and the common one.
// Status 0 asks whether the code is there with any status.
func (c Codes) Documented(method, path string, status int, code string) bool {
	for _, rows := range [][]Code{c[method+" "+path], c[""]} {
		for _, r := range rows {
			if r.Code == code && (status == 0 || r.Status == 0 || r.Status == status) {
				return true
			}
		}
	}
	return false
}
