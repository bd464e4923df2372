package authz

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// maxReason is the longest reason of a stop or a resume, in bytes of UTF-8.
const maxReason = 256

// Stop is one use of the kill switch: no reveal of its tenant, or of any, is
// allowed until a Resume names it.
type Stop struct {
	ID     string // random
	Tenant string // "": the whole deployment
	Reason string
	By     string // the principal's id
	At     int64  // Unix milliseconds
}

// stopBody is stored for a stop.
type stopBody struct {
	Version int    `json:"v"`
	Tenant  string `json:"tenant"`
	Reason  string `json:"reason"`
	By      string `json:"by"`
	At      int64  `json:"at"`
}

// resumeBody is stored for a resume. It names the stops that it lifts: one
// that its author did not see stays in force.
type resumeBody struct {
	Version int      `json:"v"`
	Tenant  string   `json:"tenant"`
	Stops   []string `json:"stops"` // sorted
	Reason  string   `json:"reason"`
	By      string   `json:"by"`
	At      int64    `json:"at"`
}

// StopsConfig configures Stops; Tables, Now and Random are required.
type StopsConfig struct {
	Tables    []RegionControl // the local one first
	Now       func() time.Time
	Random    io.Reader     // cryptographic
	PollEvery time.Duration // 0: two seconds
	Logger    zerolog.Logger
}

// Stops is the kill switch. Stops and resumes are insert-only items, so
// concurrent ones cannot undo each other in any order of replication: a stop
// is in force while no resume of the same scope names it. An item that cannot
// be read stops the whole deployment, as a stop, or lifts nothing, as a
// resume. All methods are safe for concurrent use.
type Stops struct {
	cfg  StopsConfig
	poll poller

	// mu is held while the table is read and while inForce is stored, so that
	// a read begun before a Stop cannot undo it here.
	mu      sync.Mutex
	inForce atomic.Pointer[[]Stop] // in order of ID; nil until the first Refresh
}

// NewStops returns Stops that know nothing yet: Refresh reads them.
func NewStops(cfg StopsConfig) *Stops {
	s := &Stops{cfg: cfg}
	s.poll = poller{
		every: cmp.Or(cfg.PollEvery, defaultPollEvery), refresh: s.Refresh, logger: cfg.Logger,
		fails: "reading the stops fails", works: "reading the stops works again",
	}
	return s
}

// Run polls the local table until ctx ends, so that a stop is in force within
// five seconds of being in that table; while polls fail for longer, Of
// answers ErrUnavailable.
func (s *Stops) Run(ctx context.Context) { s.poll.run(ctx) }

// Ready is nil while Of can answer, else ErrUnavailable.
func (s *Stops) Ready() error {
	if s.inForce.Load() == nil || s.poll.stale.Load() {
		return ErrUnavailable
	}
	return nil
}

// Of returns the stops in force for a tenant, the deployment's among them;
// "" for the deployment's alone. ErrUnavailable where that cannot be known.
func (s *Stops) Of(tenant string) ([]Stop, error) {
	if err := s.Ready(); err != nil {
		return nil, err
	}
	var found []Stop
	for _, stop := range *s.inForce.Load() {
		if stop.Tenant == "" || stop.Tenant == tenant {
			found = append(found, stop)
		}
	}
	return found, nil
}

// Stop stops the reveals of a tenant, or "" for all, in every region's table.
// It is in force here when it returns, and elsewhere after a poll; notReached
// names the regions that learn of it by replication only. An *InputError
// refuses the reason; nothing was written then. On any other error it may be
// in force or not.
func (s *Stops) Stop(ctx context.Context, tenant, reason, by string) (id string, notReached []string, err error) {
	body := stopBody{bodyVersion, tenant, reason, by, s.cfg.Now().UnixMilli()}
	if err := checkReason(reason); err != nil {
		return "", nil, err
	}
	id, err = randomBase32(s.cfg.Random, keyIDBytes)
	if err != nil {
		return "", nil, fmt.Errorf("stop: %w", err)
	}
	notReached, err = insertBody(ctx, s.cfg.Tables, KindStop, id, body)
	if err != nil {
		return "", nil, fmt.Errorf("stop: %w", err)
	}
	s.learn(func(known []Stop) []Stop { return append(known, body.stop(id)) })
	return id, notReached, nil
}

// Resume lifts the stops of exactly this scope, a tenant's or "" for the
// deployment's, that the local table has now; lifted names them. Stops that
// it does not know of stay in force. Where there are none it writes nothing.
func (s *Stops) Resume(ctx context.Context, tenant, reason, by string) (lifted, notReached []string, err error) {
	if err := checkReason(reason); err != nil {
		return nil, nil, err
	}
	if err := s.Refresh(ctx); err != nil {
		return nil, nil, err
	}
	for _, stop := range *s.inForce.Load() {
		if stop.Tenant == tenant {
			lifted = append(lifted, stop.ID)
		}
	}
	if len(lifted) == 0 {
		return nil, nil, nil
	}
	id, err := randomBase32(s.cfg.Random, keyIDBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("resume: %w", err)
	}
	body := resumeBody{bodyVersion, tenant, lifted, reason, by, s.cfg.Now().UnixMilli()}
	if notReached, err = insertBody(ctx, s.cfg.Tables, KindResume, id, body); err != nil {
		return nil, nil, fmt.Errorf("resume: %w", err)
	}
	s.learn(func(known []Stop) []Stop {
		return slices.DeleteFunc(known, func(stop Stop) bool { return slices.Contains(lifted, stop.ID) })
	})
	return lifted, notReached, nil
}

func checkReason(reason string) error {
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return &InputError{"bad_reason", "a reason is 1 to 256 bytes without control characters"}
	}
	return nil
}

// learn stores a changed copy of what is known, where anything is.
func (s *Stops) learn(change func([]Stop) []Stop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.inForce.Load(); known != nil {
		next := change(slices.Clone(*known))
		s.inForce.Store(&next)
	}
}

// Refresh reads the local table once, now. On an error what was known stays.
func (s *Stops) Refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	local := s.cfg.Tables[0].Control
	stops, err := listAll(ctx, local, KindStop)
	if err != nil {
		return fmt.Errorf("read the stops: %w", err)
	}
	resumes, err := listAll(ctx, local, KindResume)
	if err != nil {
		return fmt.Errorf("read the resumes: %w", err)
	}
	lifted := s.lifted(resumes)
	inForce := []Stop{}
	for _, item := range stops {
		stop := s.decodeStop(item)
		if !lifted[scoped{stop.Tenant, stop.ID}] {
			inForce = append(inForce, stop)
		}
	}
	s.inForce.Store(&inForce)
	return nil
}

// scoped is a stop as a resume names it: a tenant's lifts no other's.
type scoped struct{ tenant, stop string }

func (s *Stops) lifted(resumes []Item) map[scoped]bool {
	lifted := map[scoped]bool{}
	for _, item := range resumes {
		body, err := decodeResumeBody(item.Body)
		if err != nil {
			s.cfg.Logger.Error().Str("resume", item.ID).Msg("a resume cannot be read and lifts nothing")
			continue
		}
		for _, id := range body.Stops {
			lifted[scoped{body.Tenant, id}] = true
		}
	}
	return lifted
}

func (s *Stops) decodeStop(item Item) Stop {
	body, err := decodeStopBody(item.Body)
	if err != nil {
		s.cfg.Logger.Error().Str("stop", item.ID).Msg("a stop cannot be read and is in force for all")
	}
	return body.stop(item.ID)
}

func (b stopBody) stop(id string) Stop { return Stop{id, b.Tenant, b.Reason, b.By, b.At} }

func decodeStopBody(b []byte) (stopBody, error) {
	body, err := decodeBody[stopBody](b)
	if err != nil || body.Version != bodyVersion || checkReason(body.Reason) != nil || body.By == "" || body.At <= 0 {
		return stopBody{}, errBody
	}
	return body, nil
}

func decodeResumeBody(b []byte) (resumeBody, error) {
	body, err := decodeBody[resumeBody](b)
	if err != nil || body.Version != bodyVersion || checkReason(body.Reason) != nil || body.By == "" || body.At <= 0 ||
		len(body.Stops) == 0 || !slices.IsSorted(body.Stops) {
		return resumeBody{}, errBody
	}
	return body, nil
}
