//go:build !unix

package bulk

import "os"

// lock does nothing here: two runs with one output are the user's to avoid.
func lock(*os.File) error { return nil }

// syncDir does nothing here: directories cannot be synced.
func syncDir(string) error { return nil }
