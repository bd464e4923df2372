package httpapi

import (
	"strings"

	"piivault/api"
	"piivault/internal/vault"
)

// dutyOf is the duty that a path belongs to; none for what every instance
// answers. A path of /v1 that is not listed belongs to repair: a new route
// does not appear on instances that were meant to do one thing.
func dutyOf(path string) (vault.Duty, bool) {
	switch path {
	case "/v1/tokenize", "/v1/inspect":
		return vault.CanTokenize, true
	case "/v1/detokenize":
		return vault.CanDetokenize, true
	case "/v1/audit/query":
		return vault.CanAudit, true
	case "/v1/types", "/v1/regions":
		return "", false
	}
	return vault.CanRepair, strings.HasPrefix(path, "/v1/")
}

// stopInfo keeps the reason of the deployment's stops to the operator.
func stopInfo(s vault.Stop) api.StopInfo {
	if s.Tenant == "" {
		return api.StopInfo{ID: s.ID, Scope: api.StopInfoScopeDeployment, Since: timestamp(s.At)}
	}
	return api.StopInfo{ID: s.ID, Scope: api.StopInfoScopeTenant, Since: timestamp(s.At), By: s.By, Reason: s.Reason}
}
