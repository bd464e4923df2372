package httpapi

import (
	"context"
	"net/http"
	"time"

	"piivault/api"
	"piivault/internal/vault"
)

// defaultOverlap is how long a rotated key works on where nothing is said.
const defaultOverlap = 24 * time.Hour

// rotatedKey is answered with 201.
type rotatedKey struct{ api.RotateKeyResponse }

func (rotatedKey) status() int { return http.StatusCreated }

// ShowKey serves POST /v1/keys/show.
func (s *server) ShowKey(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.KeyRequest) (*api.KeyState, error) {
		state, err := s.Vault.ShowKey(ctx, c, in.ID)
		out := &api.KeyState{Key: keyInfo(state.Key), Region: state.Region, Budgets: make([]api.BudgetState, len(state.Budgets))}
		for i := range state.Budgets {
			b := &state.Budgets[i]
			out.Budgets[i] = api.BudgetState{
				Kind: api.BudgetStateKind(b.Kind), Window: api.BudgetStateWindow(b.Window), Type: b.Type,
				Limit: b.Limit, Share: b.Share, Left: b.Left, EndsInSeconds: int64(b.Ends.Seconds()),
			}
		}
		return out, err
	})
}

// RotateKey serves POST /v1/keys/rotate.
func (s *server) RotateKey(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.RotateKeyRequest) (rotatedKey, error) {
		overlap := defaultOverlap
		if in.OverlapSeconds != nil {
			// What does not fit a Duration is out of range all the same.
			overlap = time.Duration(min(max(*in.OverlapSeconds, -1), 1<<32)) * time.Second
		}
		k, err := s.Vault.RotateKey(ctx, c, in.ID, overlap)
		return rotatedKey{successor(&k)}, err
	})
}

// SuspendKey serves POST /v1/keys/suspend.
func (s *server) SuspendKey(w http.ResponseWriter, r *http.Request) {
	s.suspension(w, r, s.Vault.SuspendKey)
}

// ReinstateKey serves POST /v1/keys/reinstate.
func (s *server) ReinstateKey(w http.ResponseWriter, r *http.Request) {
	s.suspension(w, r, s.Vault.ReinstateKey)
}

func (s *server) suspension(w http.ResponseWriter, r *http.Request, do func(context.Context, vault.Call, string) (vault.RevokeResult, error)) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.PrincipalRequest) (*api.SuspensionResponse, error) {
		result, err := do(ctx, c, in.ID)
		return &api.SuspensionResponse{NotReached: result.NotReached}, err
	})
}
