package audit

// Edge is the tree's right edge, the largest subtree first.
func (t *Tree) Edge() []Hash { return t.edge }
