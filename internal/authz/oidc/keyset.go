package oidc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
)

const (
	// askAgain is the least time between two readings of a key set. An unknown
	// key id is looked up at the issuer once and refused until then, so callers
	// can make six readings a minute and no more; it is also when a reading
	// that failed is tried again.
	askAgain = 10 * time.Second
	// maxWaiting bounds the requests that wait for a reading.
	maxWaiting = 32
	// maxKeys of an issuer: large ones have some ten.
	maxKeys = 100
)

var errNoKeys = errors.New("oidc: the issuer's answer has no key that can be used")

// publicKey is one that may verify.
type publicKey struct {
	public    any
	algorithm string // the only one it is for; "": any that fits
}

// keySet is what an issuer published; immutable.
type keySet struct {
	text []byte
	byID map[string][]publicKey
}

// parseKeySet skips what it does not understand (RFC 7517 §5).
func parseKeySet(text []byte) (*keySet, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if json.Unmarshal(text, &set) != nil || len(set.Keys) > maxKeys {
		return nil, errNoKeys
	}
	s := &keySet{text: text, byID: map[string][]publicKey{}}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && usable(&k) {
			s.byID[k.KeyID] = append(s.byID[k.KeyID], publicKey{k.Key, k.Algorithm})
		}
	}
	if len(s.byID) == 0 {
		return nil, errNoKeys
	}
	return s, nil
}

// usable takes public keys for signatures that are neither weak nor so large
// that using them is an attack.
func usable(k *jose.JSONWebKey) bool {
	if k.KeyID == "" || k.Use != "" && k.Use != "sig" || !k.Valid() {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return bits >= 2048 && bits <= 8192 && key.E >= 3
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// fits reports that a key is of the kind that an algorithm needs.
func (k *publicKey) fits(algorithm string) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		return algorithm[:2] == "RS" || algorithm[:2] == "PS"
	case *ecdsa.PublicKey:
		return map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm] == key.Params().Name
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// source is an issuer's key set and how it is read: by one goroutine, run.
type source struct {
	issuer  Issuer
	fetch   *fetcher
	now     func() time.Time
	logger  zerolog.Logger
	wake    chan struct{} // run reads now
	waiting chan struct{} // a place for each request that waits

	mu      sync.RWMutex  // guards the rest
	set     *keySet       // the last good one, nil for none yet
	read    time.Time     // when it was
	begun   time.Time     // the last reading
	done    chan struct{} // closed when the reading under way, or asked for, is over; nil for none
	fetches uint64
	failed  uint64
}

func newSource(c Issuer, cfg Config) *source {
	return &source{
		issuer: c, fetch: newFetcher(cfg.Transport), now: cfg.Now, logger: cfg.Logger,
		wake: make(chan struct{}, 1), waiting: make(chan struct{}, maxWaiting),
	}
}

// usable is the key set, nil where there is none or it is too old.
func (s *source) usable(now time.Time) *keySet {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.set == nil || now.Sub(s.read) > s.issuer.KeepFor {
		return nil
	}
	return s.set
}

// having returns the key set if it has the key id. For one that it does not
// have it is read again, but for askAgain.
func (s *source) having(ctx context.Context, kid string) (*keySet, error) {
	if set := s.usable(s.now()); set != nil && len(set.byID[kid]) > 0 {
		return set, nil
	}
	if done := s.ask(); done != nil {
		select {
		case s.waiting <- struct{}{}:
			defer func() { <-s.waiting }()
		default:
			return nil, authz.ErrUnavailable
		}
		select {
		case <-done:
		case <-ctx.Done():
			return nil, authz.ErrUnavailable
		}
	}
	set := s.usable(s.now())
	switch {
	case set == nil:
		return nil, authz.ErrUnavailable
	case len(set.byID[kid]) == 0:
		return nil, authz.ErrUnauthenticated
	}
	return set, nil
}

// ask wakes run and returns what is closed when it has read; nil where it read
// too lately.
func (s *source) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil {
		return s.done
	}
	if s.fetches > 0 && s.now().Sub(s.begun) < askAgain {
		return nil
	}
	s.done = make(chan struct{})
	select {
	case s.wake <- struct{}{}:
	default: // told already
	}
	return s.done
}

func (s *source) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		err := s.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		s.logChange(failing, err)
		failing = err != nil
		if failing {
			timer.Reset(min(askAgain, s.issuer.Refresh))
		} else {
			timer.Reset(s.issuer.Refresh)
		}
	}
}

// refresh reads the key set once. What cannot be used leaves the last one.
func (s *source) refresh(ctx context.Context) error {
	s.mu.Lock()
	s.begun = s.now()
	s.fetches++
	if s.done == nil {
		s.done = make(chan struct{})
	}
	s.mu.Unlock()

	set, err := s.load(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed++
	} else {
		if s.set == nil || !bytes.Equal(s.set.text, set.text) {
			s.set = set // what was verified with the one before is verified again
		}
		s.read = s.begun
	}
	close(s.done)
	s.done = nil
	return err
}

func (s *source) load(ctx context.Context) (*keySet, error) {
	text, err := s.fetch.keySet(ctx, s.issuer)
	if err != nil {
		return nil, err
	}
	return parseKeySet(text)
}

func (s *source) logChange(wasFailing bool, err error) {
	switch {
	case err != nil && !wasFailing:
		s.logger.Warn().Err(err).Str("issuer", s.issuer.Name).Msg("the key set of an issuer cannot be read")
	case err == nil && wasFailing:
		s.logger.Info().Str("issuer", s.issuer.Name).Msg("the key set of an issuer can be read again")
	}
}

func (s *source) status() Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Status{Issuer: s.issuer.Name, Read: s.read, Fetches: s.fetches, Failed: s.failed}
	if s.set != nil {
		for _, keys := range s.set.byID {
			st.Keys += len(keys)
		}
	}
	return st
}
