package authz

// Marking counts the marks that wait.
func (b *Budgets) Marking() int { return int(b.marking.Load()) }
