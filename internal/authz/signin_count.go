package authz

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// signInMethod is how a caller signs in.
type signInMethod int

const (
	byKey signInMethod = iota
	byToken
	byCertificate
	methods
)

// signInOutcome is what became of it.
type signInOutcome int

const (
	signedIn signInOutcome = iota
	refused
	limited
	undecided
	outcomes
)

// SignInCount is how often it went so.
type SignInCount struct {
	Method  string // api_key, oidc, mtls
	Outcome string // ok, refused, limited, unavailable
	N       uint64
}

// signInLogEvery bounds what failed sign-ins write to the log. They are not
// audited: who fails belongs to no tenant, and could fill anybody's log.
const signInLogEvery = 10 * time.Second

// signInCounts count sign-ins and tell the log of failures.
type signInCounts struct {
	now    func() time.Time
	logger zerolog.Logger
	n      [methods][outcomes]atomic.Uint64

	mu     sync.Mutex // guards what follows
	failed uint64     // since logged
	logged time.Time
}

func (s *signInCounts) note(m signInMethod, err error) {
	var many *TooManyFailuresError
	outcome := undecided
	switch {
	case err == nil:
		outcome = signedIn
	case errors.Is(err, ErrUnauthenticated):
		outcome = refused
	case errors.As(err, &many):
		outcome = limited
	}
	s.n[m][outcome].Add(1)
	if outcome == refused || outcome == limited {
		s.log()
	}
}

func (s *signInCounts) log() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	now := s.now()
	if since := now.Sub(s.logged); since >= 0 && since < signInLogEvery {
		return
	}
	s.logger.Warn().Uint64("failed", s.failed).Msg("sign-ins are refused")
	s.failed, s.logged = 0, now
}

// Counts are this instance's sign-ins since it started.
func (s *SignIn) Counts() []SignInCount {
	var out []SignInCount
	for m, method := range []string{apiKey, "oidc", mtlsAuthentication} {
		for o, outcome := range []string{"ok", "refused", "limited", "unavailable"} {
			out = append(out, SignInCount{method, outcome, s.counts.n[m][o].Load()})
		}
	}
	return out
}
