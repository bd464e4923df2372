//go:build !unix

package pinned

import (
	"errors"
	"os"
)

// exclusive refuses: tests that fetch run on Unix only.
func exclusive(*os.File) error { return errors.ErrUnsupported }
