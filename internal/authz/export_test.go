package authz

// Marking counts the marks that wait.
func (b *Budgets) Marking() int { return int(b.marking.Load()) }

// NewTable is a control table in memory.
func NewTable() Control { return newMemory() }
