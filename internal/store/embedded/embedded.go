// Package embedded keeps the records table in the embedded engine.
package embedded

import (
	"piivault/internal/store"
	"piivault/internal/wal"
)

// Table is the records table's definition for the engine.
func Table() wal.Table { panic("soon") }

// New returns the records table of an engine opened with Table.
func New(e *wal.Engine) store.Store { panic("soon") }
