// Package fakevault is an in-memory vault for tests of clients: it speaks the
// API, gives the tokens that an Idempotency-Key promises (design §6), refuses
// batches all or nothing, and fails where its hooks say so.
package fakevault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"piivault/client"
)

// Key is the one API key it knows.
const Key = "pvk_0123456789ab_secret"

// Created is when all its records were made.
const Created = "2026-03-01T09:30:00Z"

// Values and tokens that begin so are refused with the code that follows up
// to a space: "!invalid_email x".
const refusedMark = "!"

// Fault is what a hook does to a request.
type Fault struct {
	Status     int    // 0: the connection breaks
	Code       string // of the problem
	RetryAfter string // header
	Items      []client.ProblemItem
}

// Record is what the fake keeps of a token.
type Record struct {
	Type, Value, Subject, Country string
	Expires                       time.Time
	Made                          int // how often tokenize answered it
}

// Server is an http.Handler. Its hooks are called one at a time, with the
// number of the request to that path, from 1; nil means no fault. While it
// serves, exported fields are set inside Change.
type Server struct {
	Before func(path string, n int) *Fault // nothing is applied
	After  func(path string, n int) *Fault // all is applied
	Masked bool                            // policy shows values masked at most
	Limit  int                             // items per request, 0: 500

	mu       sync.Mutex // guards all below and, while serving, all above
	records  map[string]*Record
	requests map[string]int
	repairs  int
}

// New returns an empty vault.
func New() *Server {
	return &Server{records: map[string]*Record{}, requests: map[string]int{}}
}

// Change sets fields while it serves.
func (s *Server) Change(set func(*Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(s)
}

// Records returns a copy of what it holds, by token.
func (s *Server) Records() map[string]Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]Record, len(s.records))
	for token, r := range s.records {
		all[token] = *r
	}
	return all
}

// Requests says how often a path was asked for.
func (s *Server) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[path]
}

// refusal is an answer that is a problem.
type refusal Fault

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[r.URL.Path]++
	n := s.requests[r.URL.Path]
	if r.Header.Get("Authorization") != "Bearer "+Key {
		refuse(w, &refusal{Status: http.StatusUnauthorized, Code: "unauthenticated"})
		return
	}
	if s.Before != nil {
		if f := s.Before(r.URL.Path, n); f != nil {
			refuse(w, (*refusal)(f))
			return
		}
	}
	answer, bad := s.route(r)
	if s.After != nil {
		if f := s.After(r.URL.Path, n); f != nil {
			refuse(w, (*refusal)(f))
			return
		}
	}
	if bad != nil {
		refuse(w, bad)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost && r.URL.Path == "/v1/repair" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, bad *refusal) {
	if bad.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "req-1")
	if bad.RetryAfter != "" {
		w.Header().Set("Retry-After", bad.RetryAfter)
	}
	w.WriteHeader(bad.Status)
	_ = json.NewEncoder(w).Encode(client.Problem{Code: bad.Code, Status: int32(bad.Status), Items: bad.Items})
}

func (s *Server) route(r *http.Request) (any, *refusal) {
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/tokenize":
		return with(r, func(req client.TokenizeRequest) (any, *refusal) {
			return s.tokenize(req, r.Header.Get("Idempotency-Key"))
		})
	case "POST /v1/detokenize":
		return with(r, s.detokenize)
	case "POST /v1/inspect":
		return with(r, s.inspect)
	case "POST /v1/erase":
		return with(r, s.erase)
	case "GET /v1/types":
		return types(), nil
	case "GET /v1/regions":
		return client.RegionsResponse{Local: "eu-west-1", DegradedRecords: 17, Regions: []client.RegionInfo{
			{Name: "eu-west-1", Kms: client.KmsStateUp}, {Name: "us-east-1", Kms: client.KmsStateDown, MissingCopies: 17},
		}}, nil
	case "POST /v1/audit/query":
		return with(r, query)
	}
	return s.manage(r)
}

func (s *Server) manage(r *http.Request) (any, *refusal) {
	created, _ := time.Parse(time.RFC3339, Created)
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/repair":
		s.repairs = 3
		return nil, nil
	case "GET /v1/repair":
		if s.repairs--; s.repairs > 1 {
			return client.RepairStatus{State: client.RepairStateRunning, Scanned: 1234, Repaired: 9, Remaining: 8}, nil
		}
		return client.RepairStatus{State: client.RepairStateIdle, Scanned: 1234, Repaired: 17}, nil
	case "GET /v1/coverage":
		return coverage(created, r.URL.Query().Get("cursor"))
	case "POST /v1/keys":
		return with(r, func(client.CreateKeyRequest) (any, *refusal) {
			return client.CreateKeyResponse{ID: "4f0c2a9be1d7", Key: "pvk_4f0c2a9be1d7_new", NotReached: []string{"us-east-1"}}, nil
		})
	case "GET /v1/keys":
		return client.KeysResponse{Keys: []client.KeyInfo{{ID: "4f0c2a9be1d7", Name: "shipping\x1b[2J", Roles: []string{"reader", "writer"}, Created: created}}}, nil
	case "POST /v1/keys/show":
		return with(r, func(req client.KeyRequest) (any, *refusal) { return keyState(req.ID, created) })
	case "POST /v1/keys/rotate":
		return with(r, func(client.RotateKeyRequest) (any, *refusal) {
			return client.RotateKeyResponse{ID: "8be1d74f0c2a", Key: "pvk_8be1d74f0c2a_new", OldExpires: created, NotReached: []string{"us-east-1"}}, nil
		})
	case "POST /v1/keys/suspend", "POST /v1/keys/reinstate":
		return with(r, func(client.PrincipalRequest) (any, *refusal) {
			return client.SuspensionResponse{NotReached: []string{"us-east-1"}}, nil
		})
	case "POST /v1/keys/revoke":
		return with(r, func(client.RevokeKeyRequest) (any, *refusal) {
			return client.RevokeKeyResponse{NotReached: []string{}}, nil
		})
	}
	return nil, &refusal{Status: http.StatusNotFound, Code: "no_such_route"}
}

func keyState(id string, created time.Time) (any, *refusal) {
	if id != "4f0c2a9be1d7" {
		return nil, &refusal{Status: http.StatusNotFound, Code: "not_found"}
	}
	state := client.KeyState{
		Key:    client.KeyInfo{ID: id, Name: "shipping\x1b[2J", Roles: []string{"reader", "writer"}, Created: created},
		Region: "eu-west-1",
	}
	for _, window := range []client.BudgetStateWindow{client.BudgetStateWindowHour, client.BudgetStateWindowDay} {
		state.Budgets = append(state.Budgets,
			client.BudgetState{Kind: client.BudgetStateKindPlain, Window: window, Limit: 1000, Share: 500, Left: 500, EndsInSeconds: 1800},
			client.BudgetState{Kind: client.BudgetStateKindPlain, Type: "email", Window: window, Limit: 1000, Share: 500, Left: 440, EndsInSeconds: 1800})
	}
	return state, nil
}

// coverage is counted in two answers.
func coverage(at time.Time, cursor string) (any, *refusal) {
	first, lag := 0.25, 1.25
	switch cursor {
	case "":
		return client.CoverageResponse{
			CountedAt: at, RingEpoch: 2, Records: 60_000, DegradedRecords: 25_000, OutdatedRecords: 3, TenantSecrets: 2, NextCursor: "7.",
			Regions: []client.RegionCoverage{
				{Name: "eu-west-1", Kms: client.KmsStateUp, UnreadableIfLost: 24_000},
				{Name: "us-east-1", Kms: client.KmsStateUp, UnreadableIfLost: 1, MissingCopies: 24_000, SecretsUnreadableIfLost: 1, ReplicationLagSeconds: &first},
			},
		}, nil
	case "7.":
		return client.CoverageResponse{
			CountedAt: at.Add(time.Minute), RingEpoch: 2, Records: 40_000, DegradedRecords: 3, OutdatedRecords: 4,
			Regions: []client.RegionCoverage{
				{Name: "eu-west-1", Kms: client.KmsStateUp, UnreadableIfLost: 1000},
				{Name: "us-east-1", Kms: client.KmsStateDenied, UnreadableIfLost: 2, MissingCopies: 1000, ReplicationLagSeconds: &lag},
			},
		}, nil
	}
	return nil, &refusal{Status: http.StatusUnprocessableEntity, Code: "invalid_cursor"}
}

func with[T any](r *http.Request, do func(T) (any, *refusal)) (any, *refusal) {
	var req T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if dec.Decode(&req) != nil {
		return nil, &refusal{Status: http.StatusBadRequest, Code: "malformed_json"}
	}
	return do(req)
}

func (s *Server) tooMany(items int) *refusal {
	limit := s.Limit
	if limit == 0 {
		limit = 500
	}
	if items > limit {
		return &refusal{Status: http.StatusRequestEntityTooLarge, Code: "batch_too_large"}
	}
	return nil
}

func refusedItems(n int, text func(int) string) (items []client.ProblemItem) {
	for i := range n {
		if mark, ok := strings.CutPrefix(text(i), refusedMark); ok {
			code, _, _ := strings.Cut(mark, " ")
			items = append(items, client.ProblemItem{Index: int32(i), Code: code})
		}
	}
	return items
}

func (s *Server) tokenize(req client.TokenizeRequest, key string) (any, *refusal) {
	if bad := s.tooMany(len(req.Items)); bad != nil {
		return nil, bad
	}
	if len(key) < 22 {
		return nil, &refusal{Status: http.StatusBadRequest, Code: "invalid_idempotency_key"}
	}
	if bad := refusedItems(len(req.Items), func(i int) string { return req.Items[i].Value }); bad != nil {
		return nil, &refusal{Status: http.StatusUnprocessableEntity, Code: bad[0].Code, Items: bad}
	}
	answer := client.TokenizeResponse{Items: make([]client.TokenizedItem, len(req.Items))}
	for i, it := range req.Items {
		token := tokenOf(key, i, it)
		if s.records[token] == nil {
			s.records[token] = &Record{Type: it.Type, Value: it.Value, Subject: it.SubjectID, Country: it.Country, Expires: it.ExpiresAt}
		}
		s.records[token].Made++
		answer.Items[i] = client.TokenizedItem{
			Index: int32(i), Status: client.ItemStatusOk, Token: token,
			KeyCopies: client.KeyCopies{Present: []string{"eu-west-1"}, Missing: []string{"us-east-1"}},
		}
	}
	return answer, nil
}

func tokenOf(key string, index int, it client.TokenizeItem) string {
	mac := hmac.New(sha256.New, []byte("fake"))
	_, _ = fmt.Fprintf(mac, "%q %d %q %q %q %v", key, index, it.Type, it.Value, it.SubjectID, it.ExpiresAt)
	return "pv_fake_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:24])
}

func (s *Server) unknown(n int, token func(int) string) *refusal {
	bad := refusedItems(n, token)
	for i := range n {
		if s.records[token(i)] == nil && !strings.HasPrefix(token(i), refusedMark) {
			bad = append(bad, client.ProblemItem{Index: int32(i), Code: "not_found"})
		}
	}
	if bad == nil {
		return nil
	}
	status := http.StatusNotFound
	if bad[0].Code == "not_yet_visible" {
		status = http.StatusServiceUnavailable
	}
	return &refusal{Status: status, Code: bad[0].Code, Items: bad}
}

func (s *Server) detokenize(req client.DetokenizeRequest) (any, *refusal) {
	if len(req.Items) > 100 {
		return nil, &refusal{Status: http.StatusRequestEntityTooLarge, Code: "batch_too_large"}
	}
	if bad := s.unknown(len(req.Items), func(i int) string { return req.Items[i].Token }); bad != nil {
		return nil, bad
	}
	answer := client.DetokenizeResponse{Items: make([]client.DetokenizedItem, len(req.Items))}
	for i, it := range req.Items {
		r := s.records[it.Token]
		item := client.DetokenizedItem{Index: int32(i), Status: client.ItemStatusOk, Type: r.Type, Value: r.Value, Reveal: client.RevealPlain}
		if s.Masked || it.Reveal == client.RevealMasked {
			item.Value, item.Reveal = r.Value[:1]+"***", client.RevealMasked
		}
		answer.Items[i] = item
	}
	return answer, nil
}

func (s *Server) inspect(req client.InspectRequest) (any, *refusal) {
	created, _ := time.Parse(time.RFC3339, Created)
	answer := client.InspectResponse{}
	for i, it := range req.Items {
		item := client.InspectedItem{Index: int32(i), Status: client.ItemStatusOk}
		if r := s.records[it.Token]; r != nil {
			bound, generation := true, int64(0)
			item.Type, item.Created, item.Expires, item.Bound, item.Generation = r.Type, created, r.Expires, &bound, &generation
			item.RingEpoch, item.HomeRegion = 1, "eu-west-1"
			item.DataKey = client.DataKeyInfo{ID: "Y0hGZ2hJaktsTW5PcFFyUw"}
			item.KeyCopies = client.KeyCopies{Present: []string{"eu-west-1"}, Missing: []string{"us-east-1"}}
		} else {
			item.Status, item.Error = client.ItemStatusError, client.ItemProblem{Code: "not_found"}
		}
		answer.Items = append(answer.Items, item)
	}
	return answer, nil
}

func (s *Server) erase(req client.EraseRequest) (any, *refusal) {
	if len(req.Items) > 0 {
		if bad := s.unknown(len(req.Items), func(i int) string { return req.Items[i].Token }); bad != nil {
			return nil, bad
		}
	}
	var erased int32
	for token, r := range s.records {
		hit := req.SubjectID != "" && r.Subject == req.SubjectID
		for _, it := range req.Items {
			hit = hit || it.Token == token
		}
		if hit {
			delete(s.records, token)
			erased++
		}
	}
	return client.EraseResponse{Job: "job-1", Erased: erased, Complete: req.Job != "", Regions: []client.RegionConfirmation{
		{Name: "eu-west-1", Confirmed: true}, {Name: "us-east-1", Confirmed: req.Job != ""},
	}}, nil
}

func types() client.TypesResponse {
	var answer client.TypesResponse
	for _, name := range []string{"address", "card_number", "date_of_birth", "email", "iban", "ip", "name", "phone", "ssn", "text"} {
		answer.Types = append(answer.Types, client.TypeInfo{Name: name, TokenFormat: "random", Bound: true, MaskExample: "x***"})
	}
	return answer
}

// query answers two pages of one entry, which shows the filters that came.
func query(req client.AuditQueryRequest) (any, *refusal) {
	at, _ := time.Parse(time.RFC3339, Created)
	e := client.AuditEntry{
		Log: "eu-west-1/dev/1", Index: 7, Time: at, RequestID: "req-1", Tenant: "t", Authentication: "api_key", Region: "eu-west-1",
		Actor: req.Actor, Action: req.Action, Outcome: req.Outcome, Type: req.Type, Purpose: req.Purpose, Record: req.Record,
		Subject: req.SubjectID, Ticket: fmt.Sprintf("%s..%s", req.From.Format(time.DateOnly), req.To.Format(time.DateOnly)),
	}
	if req.Token != "" {
		e.Record = "hash of " + req.Token
	}
	if req.Cursor == "page-2" {
		e.Index = 6
		return client.AuditQueryResponse{Entries: []client.AuditEntry{e}}, nil
	}
	return client.AuditQueryResponse{Entries: []client.AuditEntry{e}, NextCursor: "page-2"}, nil
}
