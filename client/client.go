// Package client calls a vault over HTTP. Models and requests are generated
// from api/openapi.yaml; this file adds the credential, time limits, patience
// with 429 and 503, and typed errors. No error's text holds anything that was
// sent or received but codes and request ids.
//
// The token, value and key fields of the models are plain strings: what the
// caller prints of them is the caller's to answer for.
package client

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// ErrAddress reports an address that is not an http or https URL.
var ErrAddress = errors.New("client: the address must be an http:// or https:// URL without path or query")

// Config tunes a Client; its zero value is what most want.
type Config struct {
	// HTTP sends the requests. Nil: a client of its own that keeps up to 64
	// connections. Unless its CheckRedirect says otherwise no redirect is
	// followed: it could carry values elsewhere.
	HTTP *http.Client
	// Timeout limits one attempt, its answer included. 0: 30 s.
	Timeout time.Duration
	// Retries is how often a request that was answered 429 or 503 is sent
	// again. 0: 4; negative: never.
	Retries int
	// MaxWait is the longest wait between attempts: a longer Retry-After is
	// an error at once. 0: 30 s.
	MaxWait time.Duration
	// Sleep waits between attempts. Nil: a timer. For tests.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client calls one vault. It is safe for concurrent use.
type Client struct {
	raw     *Raw
	timeout time.Duration
	retries int
	maxWait time.Duration
	sleep   func(context.Context, time.Duration) error
}

// New returns a client of the vault at address, such as
// http://127.0.0.1:8201, that authenticates with an API key. It sends nothing.
func New(address, key string, cfg Config) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || (u.Path != "" && u.Path != "/") {
		return nil, ErrAddress
	}
	c := &Client{
		timeout: orDefault(cfg.Timeout, 30*time.Second),
		retries: orDefault(cfg.Retries, 4),
		maxWait: orDefault(cfg.MaxWait, 30*time.Second),
		sleep:   cfg.Sleep,
	}
	if c.sleep == nil {
		c.sleep = sleep
	}
	c.raw, err = NewClient(u.Scheme+"://"+u.Host, WithHTTPClient(newHTTPClient(cfg.HTTP)), WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			if r.Header.Get("Idempotency-Key") == "" {
				r.Header.Del("Idempotency-Key") // the generated request sends an empty one
			}
			return nil
		}))
	return c, err
}

func orDefault[T int | time.Duration](v, fallback T) T {
	if v == 0 {
		return fallback
	}
	return v
}

func newHTTPClient(given *http.Client) *http.Client {
	var c http.Client
	if given != nil {
		c = *given
	} else {
		c.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		}
	}
	if c.CheckRedirect == nil {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &c
}

// Tokenize keeps values. An idempotencyKey makes repeating the same request
// safe, also after a crash of either side; "" sends none (NewIdempotencyKey).
func (c *Client) Tokenize(ctx context.Context, idempotencyKey string, req TokenizeRequest) (TokenizeResponse, error) {
	return call[TokenizeResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Tokenize(ctx, &TokenizeParams{IdempotencyKey: idempotencyKey}, req)
	})
}

// Detokenize gets values back.
func (c *Client) Detokenize(ctx context.Context, req DetokenizeRequest) (DetokenizeResponse, error) {
	return call[DetokenizeResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Detokenize(ctx, req)
	})
}

// Inspect tells what is stored about tokens, without opening anything.
func (c *Client) Inspect(ctx context.Context, tokens ...string) (InspectResponse, error) {
	return call[InspectResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Inspect(ctx, InspectRequest{Items: items(tokens)})
	})
}

// Erase erases the records of tokens for good.
func (c *Client) Erase(ctx context.Context, tokens ...string) (EraseResponse, error) {
	return call[EraseResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Erase(ctx, EraseRequest{Items: items(tokens)})
	})
}

// EraseStatus tells how far the erasure is whose answer named this job.
func (c *Client) EraseStatus(ctx context.Context, job string) (EraseResponse, error) {
	return call[EraseResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Erase(ctx, EraseRequest{Job: job})
	})
}

// EraseSubject erases all records of a subject for good.
func (c *Client) EraseSubject(ctx context.Context, subjectID string) (EraseResponse, error) {
	return call[EraseResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Erase(ctx, EraseRequest{SubjectID: subjectID})
	})
}

func items(tokens []string) []TokenItem {
	list := make([]TokenItem, len(tokens))
	for i, t := range tokens {
		list[i].Token = t
	}
	return list
}

// Types lists the configured types.
func (c *Client) Types(ctx context.Context) (TypesResponse, error) {
	return call[TypesResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.ListTypes(ctx) })
}

// Regions tells how the key ring's regions are.
func (c *Client) Regions(ctx context.Context) (RegionsResponse, error) {
	return call[RegionsResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.GetRegions(ctx) })
}

// Explain is Inspect, and tells who may read each value.
func (c *Client) Explain(ctx context.Context, tokens ...string) (InspectResponse, error) {
	return call[InspectResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Inspect(ctx, InspectRequest{Items: items(tokens), Explain: true})
	})
}

// Coverage counts what stays readable without each region, in as many requests
// as it takes: CountedAt is of the first.
func (c *Client) Coverage(ctx context.Context) (CoverageResponse, error) {
	sum, err := c.coverage(ctx, "")
	for cursor := sum.NextCursor; err == nil && cursor != ""; {
		var more CoverageResponse
		if more, err = c.coverage(ctx, cursor); err == nil {
			err = addCoverage(&sum, &more)
		}
		cursor = more.NextCursor
	}
	sum.NextCursor = ""
	return sum, err
}

func (c *Client) coverage(ctx context.Context, cursor string) (CoverageResponse, error) {
	return call[CoverageResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.GetCoverage(ctx, &GetCoverageParams{Cursor: cursor})
	})
}

var errRingChanged = errors.New("the key ring changed while it was counted: count again")

// addCoverage adds what a further answer counted. A KMS that did not answer
// during one of them did not answer; lags are of the last.
func addCoverage(sum, more *CoverageResponse) error {
	if more.RingEpoch != sum.RingEpoch || len(more.Regions) != len(sum.Regions) {
		return errRingChanged
	}
	sum.Records += more.Records
	sum.Unreadable += more.Unreadable
	sum.DegradedRecords += more.DegradedRecords
	sum.OutdatedRecords += more.OutdatedRecords
	sum.TenantSecrets += more.TenantSecrets
	for i := range sum.Regions {
		to, from := &sum.Regions[i], &more.Regions[i]
		if to.Name != from.Name {
			return errRingChanged
		}
		if from.Kms != KmsStateUp {
			to.Kms = from.Kms
		}
		to.MissingCopies += from.MissingCopies
		to.UnreadableIfLost += from.UnreadableIfLost
		to.SecretsUnreadableIfLost += from.SecretsUnreadableIfLost
		to.ReplicationLagSeconds = from.ReplicationLagSeconds
	}
	return nil
}

// StartRepair wakes the reconciler.
func (c *Client) StartRepair(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.StartRepair(ctx) })
	return err
}

// RepairStatus tells how far repair is.
func (c *Client) RepairStatus(ctx context.Context) (RepairStatus, error) {
	return call[RepairStatus](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.GetRepair(ctx) })
}

// CreateKey creates an API key; its credential is shown this once.
func (c *Client) CreateKey(ctx context.Context, req CreateKeyRequest) (CreateKeyResponse, error) {
	return call[CreateKeyResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.CreateKey(ctx, req) })
}

// Keys lists the tenant's API keys.
func (c *Client) Keys(ctx context.Context) (KeysResponse, error) {
	return call[KeysResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.ListKeys(ctx) })
}

// ShowKey describes an API key and what is left of its budgets.
func (c *Client) ShowKey(ctx context.Context, req KeyRequest) (KeyState, error) {
	return call[KeyState](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.ShowKey(ctx, req) })
}

// RotateKey replaces an API key; the new credential is shown this once.
func (c *Client) RotateKey(ctx context.Context, req RotateKeyRequest) (RotateKeyResponse, error) {
	return call[RotateKeyResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.RotateKey(ctx, req) })
}

// SuspendKey refuses an API key, or whoever has a principal's id, until ReinstateKey.
func (c *Client) SuspendKey(ctx context.Context, id string) (SuspensionResponse, error) {
	return call[SuspensionResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.SuspendKey(ctx, PrincipalRequest{ID: id})
	})
}

// ReinstateKey lifts suspensions.
func (c *Client) ReinstateKey(ctx context.Context, id string) (SuspensionResponse, error) {
	return call[SuspensionResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.ReinstateKey(ctx, PrincipalRequest{ID: id})
	})
}

// RevokeKey revokes an API key for good.
func (c *Client) RevokeKey(ctx context.Context, id string) (RevokeKeyResponse, error) {
	return call[RevokeKeyResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.RevokeKey(ctx, RevokeKeyRequest{ID: id})
	})
}

// Stop stops all reveals of the tenant.
func (c *Client) Stop(ctx context.Context, reason string) (StopResponse, error) {
	return call[StopResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Stop(ctx, StopRequest{Reason: reason})
	})
}

// Resume lifts the tenant's stops.
func (c *Client) Resume(ctx context.Context, reason string) (ResumeResponse, error) {
	return call[ResumeResponse](ctx, c, func(ctx context.Context) (*http.Response, error) {
		return c.raw.Resume(ctx, StopRequest{Reason: reason})
	})
}

// Stops tells what is stopped.
func (c *Client) Stops(ctx context.Context) (StopsResponse, error) {
	return call[StopsResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.GetStops(ctx) })
}

// QueryAudit returns a page of audit entries, newest first.
func (c *Client) QueryAudit(ctx context.Context, req AuditQueryRequest) (AuditQueryResponse, error) {
	return call[AuditQueryResponse](ctx, c, func(ctx context.Context) (*http.Response, error) { return c.raw.QueryAudit(ctx, req) })
}

// Ready asks once whether the instance can do its work; one that cannot is an
// answer, not an error.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.raw.Readyz(ctx)
	if err != nil {
		return Readiness{}, transportError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp.Body)
	if err != nil {
		return Readiness{}, err
	}
	defer clear(body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return Readiness{}, problem(resp, body)
	}
	return decode[Readiness](bytes.NewReader(body))
}
