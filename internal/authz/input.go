package authz

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// InputError refuses what somebody asked to be created. Code is stable
// (docs: openapi.yaml); neither it nor the message quotes the input.
type InputError struct{ Code, Message string }

func (e *InputError) Error() string { return "authz: " + e.Code }

// maxName is the longest name of a key, in bytes of UTF-8.
const maxName = 128

// Roles returns the roles that a credential can carry, in their canonical
// order: that in which a key's roles are stored.
func Roles() []Role {
	return []Role{RoleAdmin, RoleWriter, RoleReader, RoleSupport, RoleEraser, RoleAuditor, RoleOperator}
}

// Actions returns every action.
func Actions() []Action {
	return []Action{
		ActionTokenize, ActionDetokenize, ActionSearch, ActionInspect,
		ActionErase, ActionAuditRead, ActionRepair, ActionAdmin,
		ActionStop, ActionResume,
	}
}

// canonicalRoles returns roles once each and in canonical order.
func canonicalRoles(roles []Role) ([]Role, error) {
	if len(roles) == 0 {
		return nil, &InputError{"no_roles", "a key needs at least one role"}
	}
	known := Roles()
	for _, r := range roles {
		if !slices.Contains(known, r) {
			return nil, &InputError{"unknown_role", "a role is not one that exists"}
		}
	}
	return slices.DeleteFunc(known, func(r Role) bool { return !slices.Contains(roles, r) }), nil
}

func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return &InputError{"bad_name", "a name has 1 to 128 bytes"}
	case !utf8.ValidString(name) || !printable(name):
		return &InputError{"bad_name", "a name has printable characters only"}
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return &InputError{"bad_name", "a name neither starts nor ends with a space"}
	}
	return nil
}

// printable refuses controls and invisible format characters, which could
// make one name look like another in an audit listing.
func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
