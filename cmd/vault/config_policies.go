package main

import (
	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
	"piivault/internal/authz/oidc"
)

// policiesIn are those that an instance with the configuration would start
// with: checked, and every case of theirs run.
func policiesIn(c *config.Config) (*authz.Policies, error) {
	claims, err := oidc.ClaimTypes(c.SignIn.Issuers...)
	if err != nil {
		return nil, err
	}
	s, err := authz.NewPolicySource(authz.PolicySourceConfig{Dir: c.Policies, Claims: claims})
	if err != nil {
		return nil, err
	}
	return s.Current(), nil
}

// policies says whether an instance could start with them.
func (f *findings) policies(c *config.Config) {
	p, err := policiesIn(c)
	if err != nil {
		f.fail("policies: "+printable(err.Error()), "vault policy check, and vault policy test for the cases")
		return
	}
	n, cases := p.Count()
	f.good("%d policies, %d cases pass", n, cases)
}
