package vault

import (
	"testing"

	"piivault/internal/authz"
)

// A batch asks once for what is permitted, and anew for each that is denied:
// many denied tokens take as long as many unknown ones, which are no two alike.
func TestDenialsAreDecidedAnew(t *testing.T) {
	policies, err := authz.DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	d := &decider{policies: policies, c: Call{Principal: Principal{ID: "key_x", Roles: []authz.Role{authz.RoleReader}}}}
	permitted := authz.Request{Action: authz.ActionDetokenize, Reveal: Plain, Purpose: "p", Type: "email"}
	denied := permitted
	denied.Purpose = ""
	if !d.decide(permitted).Allowed || d.decide(denied).Allowed {
		t.Fatal("the default policies decide otherwise")
	}
	if _, remembered := d.memo[permitted]; !remembered {
		t.Error("what is permitted is asked for again")
	}
	if _, remembered := d.memo[denied]; remembered {
		t.Error("a denial is remembered")
	}
}
