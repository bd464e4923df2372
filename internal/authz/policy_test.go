package authz

import "testing"

func defaultFiles(tb testing.TB) map[string][]byte {
	tb.Helper()
	files := make(map[string][]byte)
	entries, err := policyFiles.ReadDir(policyDir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != schemaFile {
			if files[e.Name()], err = policyFiles.ReadFile(policyDir + "/" + e.Name()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return files
}
