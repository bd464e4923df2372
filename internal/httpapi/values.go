package httpapi

import (
	"context"
	"net/http"
	"unicode/utf8"

	"piivault/api"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// maxReference is the longest reference, in characters.
const maxReference = 256

// Tokenize serves POST /v1/tokenize.
func (s *server) Tokenize(w http.ResponseWriter, r *http.Request, params api.TokenizeParams) {
	post(s, w, r, s.Limits.TokenizeBytes, func(ctx context.Context, c vault.Call, in *api.TokenizeRequest) (*api.TokenizeResponse, error) {
		if len(r.Header["Idempotency-Key"]) > 0 && !validIdempotencyKey(params.IdempotencyKey) {
			return nil, problemIdempotencyKey()
		}
		onward, err := batchOf(len(in.Items), s.Limits.TokenizeItems, in.OnError)
		if err != nil {
			return nil, err
		}
		if err := checkReferences(in.Items, func(i api.TokenizeItem) string { return i.Reference }); err != nil {
			return nil, err
		}
		answers, err := s.Vault.Tokenize(ctx, c, vault.TokenizeRequest{
			Items: tokenizeItems(in.Items), Continue: onward, IdempotencyKey: secret.NewText(params.IdempotencyKey),
		})
		if err != nil {
			return nil, err
		}
		return tokenized(in.Items, answers), nil
	})
}

// Detokenize serves POST /v1/detokenize.
func (s *server) Detokenize(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.DetokenizeRequest) (*api.DetokenizeResponse, error) {
		onward, err := batchOf(len(in.Items), s.Limits.DetokenizeItems, in.OnError)
		if err != nil {
			return nil, err
		}
		if err := checkReferences(in.Items, func(i api.DetokenizeItem) string { return i.Reference }); err != nil {
			return nil, err
		}
		items := make([]vault.DetokenizeItem, len(in.Items))
		for i, item := range in.Items {
			items[i] = vault.DetokenizeItem{Token: secret.NewText(item.Token), Reveal: vault.Reveal(item.Reveal)}
		}
		result, err := s.Vault.Detokenize(ctx, c, vault.DetokenizeRequest{Items: items, Purpose: in.Purpose, Ticket: in.Ticket, Continue: onward})
		if err != nil {
			return nil, err
		}
		if result.Budget != nil {
			w.Header().Set("RateLimit", rateLimit(result.Budget))
		}
		return revealed(in.Items, result), nil
	})
}

// Inspect serves POST /v1/inspect.
func (s *server) Inspect(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.InspectRequest) (*api.InspectResponse, error) {
		if _, err := batchOf(len(in.Items), s.Limits.DetokenizeItems, ""); err != nil {
			return nil, err
		}
		look := s.Vault.Inspect
		if in.Explain {
			look = s.Vault.Explain
		}
		answers, err := look(ctx, c, tokensOf(in.Items))
		if err != nil {
			return nil, err
		}
		return inspected(answers), nil
	})
}

func one(given bool) int {
	if given {
		return 1
	}
	return 0
}

// Erase serves POST /v1/erase.
func (s *server) Erase(w http.ResponseWriter, r *http.Request) {
	post(s, w, r, s.Limits.BodyBytes, func(ctx context.Context, c vault.Call, in *api.EraseRequest) (*api.EraseResponse, error) {
		switch {
		case one(len(in.Items) > 0)+one(in.SubjectID != "")+one(in.Job != "") != 1:
			return nil, unprocessable("invalid_erase", "Send either items or subject_id, or the job of an earlier erasure.")
		case len(in.Items) > s.Limits.DetokenizeItems:
			return nil, problemBatchSize()
		}
		result, err := s.Vault.Erase(ctx, c, vault.EraseRequest{Tokens: tokensOf(in.Items), SubjectID: in.SubjectID, Job: in.Job})
		if err != nil {
			return nil, err
		}
		regions := make([]api.RegionConfirmation, len(result.Regions))
		for i, region := range result.Regions {
			regions[i] = api.RegionConfirmation{Name: region.Name, Confirmed: region.Confirmed}
		}
		return &api.EraseResponse{Job: result.Job, Erased: number32(result.Erased), Complete: result.Complete, Regions: regions}, nil
	})
}

// batchOf checks what all batches have in common.
func batchOf(n, most int, onError api.OnError) (onward bool, err error) {
	switch {
	case n == 0:
		return false, problemEmptyBatch()
	case n > most:
		return false, problemBatchSize()
	case onError != "" && !onError.Valid():
		return false, unprocessable("invalid_on_error", "on_error must be abort or continue.")
	}
	return onError == api.OnErrorContinue, nil
}

// checkReferences refuses the batch, with continue too: the domain never sees
// references, and leaving an item out would change what an idempotency key
// makes of the others.
func checkReferences[T any](items []T, reference func(T) string) error {
	var bad []vault.ItemError
	for i, item := range items {
		if utf8.RuneCountInString(reference(item)) > maxReference {
			bad = append(bad, vault.ItemError{Index: i, Code: "invalid_reference", Message: "reference must be at most 256 characters."})
		}
	}
	if len(bad) > 0 {
		return unprocessable("invalid_reference", "A reference is too long. Nothing was done.", bad...)
	}
	return nil
}

// validIdempotencyKey checks length and alphabet (RFC 3986 §2.3 unreserved).
func validIdempotencyKey(key string) bool {
	if len(key) < 22 || len(key) > 200 {
		return false
	}
	for _, c := range []byte(key) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

func tokensOf(items []api.TokenItem) []secret.Text {
	tokens := make([]secret.Text, len(items))
	for i, item := range items {
		tokens[i] = secret.NewText(item.Token)
	}
	return tokens
}

func tokenizeItems(items []api.TokenizeItem) []vault.TokenizeItem {
	out := make([]vault.TokenizeItem, len(items))
	for i := range items {
		item := &items[i]
		out[i] = vault.TokenizeItem{
			Type: item.Type, Value: item.Value.Plaintext, Subject: item.SubjectID,
			Expires: item.ExpiresAt, Country: item.Country,
		}
	}
	return out
}
