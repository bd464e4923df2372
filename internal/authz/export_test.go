package authz

// Marking counts the marks that wait.
func (b *Budgets) Marking() int { return int(b.marking.Load()) }

// NewTable is a control table in memory.
func NewTable() Control { return newMemory() }

// SubjectsOf names the set of subjects that a principal has learned of.
func SubjectsOf(id string) string { return principalCounter(id, BudgetSubjects, "") }
