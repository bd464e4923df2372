package crypto

import "slices"

// Opens reports that some region of the ring has a copy of the message's data
// key, under its tenant's present key there or under a former one. Whether that
// region can be reached is another matter.
func (r *Ring) Opens(m *Message) bool {
	return slices.ContainsFunc(r.keysOf(m.lookup(contextTenant)).regions, func(g *region) bool {
		_, raw := g.copyFor(m.keys)
		return raw != nil
	})
}
