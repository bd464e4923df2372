package httpapi

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"piivault/api"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// ListTypes serves GET /v1/types.
func (s *server) ListTypes(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.TypesResponse, error) {
		types, err := s.Vault.Types(ctx, c)
		out := make([]api.TypeInfo, len(types))
		for i, t := range types {
			out[i] = api.TypeInfo{Name: t.Name, TokenFormat: t.TokenFormat, Bound: t.Bound, Searchable: t.Searchable, MaskExample: t.MaskExample}
		}
		return &api.TypesResponse{Types: out}, err
	})
}

// GetRegions serves GET /v1/regions.
func (s *server) GetRegions(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.RegionsResponse, error) {
		result, err := s.Vault.Regions(ctx, c)
		regions := make([]api.RegionInfo, len(result.Regions))
		for i, region := range result.Regions {
			regions[i] = api.RegionInfo{Name: region.Name, Kms: api.KmsState(region.KMS), MissingCopies: int64(region.MissingCopies)}
		}
		return &api.RegionsResponse{Local: result.Local, Regions: regions, DegradedRecords: int64(result.DegradedRecords)}, err
	})
}

// accepted is the answer to a wish that is granted later.
type accepted struct{}

func (accepted) status() int { return http.StatusAccepted }
func (accepted) bodiless()   {}

// StartRepair serves POST /v1/repair.
func (s *server) StartRepair(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (accepted, error) {
		return accepted{}, s.Vault.StartRepair(ctx, c)
	})
}

// GetRepair serves GET /v1/repair.
func (s *server) GetRepair(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.RepairStatus, error) {
		st, err := s.Vault.RepairStatus(ctx, c)
		state := api.RepairStateIdle
		if st.Running {
			state = api.RepairStateRunning
		}
		return &api.RepairStatus{
			State: state, Scanned: int64(st.Scanned), Repaired: int64(st.Repaired),
			Remaining: int64(st.Remaining), Failed: int64(st.Failed),
			Outdated: int64(st.Outdated), RingScan: st.RingScan, RingEpoch: number64(st.Epoch), RingDone: st.RingDone, Superseded: st.Superseded,
		}, err
	})
}

// GetCoverage serves GET /v1/coverage.
func (s *server) GetCoverage(w http.ResponseWriter, r *http.Request, params api.GetCoverageParams) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.CoverageResponse, error) {
		count, err := s.Vault.Coverage(ctx, c, params.Cursor)
		regions := make([]api.RegionCoverage, len(count.Regions))
		for i, region := range count.Regions {
			regions[i] = api.RegionCoverage{
				Name: region.Name, Kms: api.KmsState(region.KMS), MissingCopies: int64(region.MissingCopies),
				UnreadableIfLost: int64(region.IfLost), SecretsUnreadableIfLost: int64(region.SecretsIfLost),
			}
			if region.LagKnown {
				regions[i].ReplicationLagSeconds = new(region.Lag.Seconds())
			}
		}
		return &api.CoverageResponse{
			CountedAt: timestamp(count.CountedAt.UnixMilli()), RingEpoch: number64(count.Epoch), Records: int64(count.Records), Unreadable: int64(count.Unreadable),
			DegradedRecords: int64(count.Degraded), OutdatedRecords: int64(count.Outdated), TenantSecrets: int64(count.TenantSecrets), Regions: regions,
			NextCursor: count.NextCursor,
		}, err
	})
}

// createdKey is answered with 201.
type createdKey struct{ api.CreateKeyResponse }

func (createdKey) status() int { return http.StatusCreated }

// CreateKey serves POST /v1/keys.
func (s *server) CreateKey(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.CreateKeyRequest) (createdKey, error) {
		roles := make([]vault.Role, len(in.Roles))
		for i, role := range in.Roles {
			roles[i] = vault.Role(role)
		}
		k, err := s.Vault.CreateKey(ctx, c, vault.NewKeyRequest{Name: in.Name, Roles: roles, Expires: in.ExpiresAt, Budget: keyBudget(in.Budget)})
		return createdKey{api.CreateKeyResponse{ID: k.ID, Key: k.Key.Reveal(), NotReached: k.NotReached}}, err
	})
}

// ListKeys serves GET /v1/keys.
func (s *server) ListKeys(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.KeysResponse, error) {
		keys, err := s.Vault.ListKeys(ctx, c)
		out := make([]api.KeyInfo, len(keys))
		for i, k := range keys {
			out[i] = keyInfo(k)
		}
		return &api.KeysResponse{Keys: out}, err
	})
}

// RevokeKey serves POST /v1/keys/revoke.
func (s *server) RevokeKey(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.RevokeKeyRequest) (*api.RevokeKeyResponse, error) {
		result, err := s.Vault.RevokeKey(ctx, c, in.ID)
		return &api.RevokeKeyResponse{NotReached: result.NotReached}, err
	})
}

// Stop serves POST /v1/stop. No route stops more than the caller's tenant.
func (s *server) Stop(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.StopRequest) (*api.StopResponse, error) {
		result, err := s.Vault.Stop(ctx, c, in.Reason, false)
		return &api.StopResponse{ID: result.ID, NotReached: result.NotReached}, err
	})
}

// Resume serves POST /v1/resume.
func (s *server) Resume(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.StopRequest) (*api.ResumeResponse, error) {
		result, err := s.Vault.Resume(ctx, c, in.Reason, false)
		return &api.ResumeResponse{Lifted: result.Lifted, Stopped: result.Stopped, NotReached: result.NotReached}, err
	})
}

// GetStops serves GET /v1/stop.
func (s *server) GetStops(w http.ResponseWriter, r *http.Request) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (*api.StopsResponse, error) {
		stops, err := s.Vault.Stops(ctx, c)
		out := make([]api.StopInfo, len(stops))
		for i, stop := range stops {
			out[i] = stopInfo(stop)
		}
		return &api.StopsResponse{Stops: out}, err
	})
}

// QueryAudit serves POST /v1/audit/query.
func (s *server) QueryAudit(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.AuditQueryRequest) (*api.AuditQueryResponse, error) {
		query := vault.AuditRequest{
			Actor: in.Actor, Record: in.Record, Type: in.Type, Action: in.Action, Purpose: in.Purpose, Outcome: in.Outcome,
			Token: secret.NewText(in.Token), SubjectID: in.SubjectID, From: in.From, To: in.To, Cursor: in.Cursor,
		}
		if in.Limit != nil {
			if query.Limit = int(*in.Limit); query.Limit == 0 {
				return nil, unprocessable("invalid_limit", "limit must be 1 to 1,000.")
			}
		}
		page, err := s.Vault.QueryAudit(ctx, c, query)
		out := make([]api.AuditEntry, len(page.Entries))
		for i := range page.Entries {
			out[i] = auditEntry(&page.Entries[i])
		}
		return &api.AuditQueryResponse{Entries: out, NextCursor: page.NextCursor}, err
	})
}

// Livez serves GET /livez.
func (s *server) Livez(w http.ResponseWriter, _ *http.Request) {
	s.respond(exchangeOf(w), http.StatusOK, "application/json", &api.Liveness{Alive: true})
}

// Readyz serves GET /readyz. Why a dependency is out is for the log alone.
func (s *server) Readyz(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(w)
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Timeout)
	defer cancel()
	answer := api.Readiness{Ready: true, Dependencies: []api.Dependency{}}
	add := func(name string, ready bool) {
		answer.Dependencies = append(answer.Dependencies, api.Dependency{Name: name, Ready: ready})
		answer.Ready = answer.Ready && ready
	}
	for name, err := range s.Vault.Ready(ctx) {
		if add(name, err == nil); err != nil {
			s.Logger.Warn().Err(err).Str("dependency", name).Msg("not ready")
		}
	}
	if s.Draining != nil && s.Draining() {
		add("serving", false)
	}
	slices.SortFunc(answer.Dependencies, func(a, b api.Dependency) int { return strings.Compare(a.Name, b.Name) })
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	s.respond(x, status, "application/json", &answer)
}

// GetMetrics serves GET /metrics.
func (s *server) GetMetrics(w http.ResponseWriter, r *http.Request) {
	if s.Metrics == nil {
		s.notFound(w, r)
		return
	}
	s.Metrics.ServeHTTP(w, r)
}

// GetContract serves GET /openapi.yaml.
func (s *server) GetContract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = io.WriteString(w, api.Contract()) // the client is gone: there is nobody to tell
}
