// Package embedded keeps the control table in the embedded engine.
package embedded

import (
	"piivault/internal/authz"
	"piivault/internal/wal"
)

// Table is the control table's definition for the engine.
func Table() wal.Table { panic("soon") }

// New returns the control table of an engine opened with Table.
func New(e *wal.Engine) authz.Control { panic("soon") }
