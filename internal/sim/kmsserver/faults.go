package kmsserver

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// Mode is how a region misbehaves.
type Mode string

// The modes.
const (
	Up       Mode = "up"       // none
	Down     Mode = "down"     // closes the connection without an answer
	Hang     Mode = "hang"     // takes the request and never answers
	Throttle Mode = "throttle" // ThrottlingException
	Deny     Mode = "deny"     // AccessDeniedException
	Broken   Mode = "broken"   // KMSInternalException, status 500
	Slow     Mode = "slow"     // waits, then applies and answers
	Late     Mode = "late"     // applies, then waits and answers
)

// defaultDelay is beyond what anybody waits for a KMS.
const defaultDelay = 5 * time.Second

// Fault is an order to misbehave.
type Fault struct {
	Region string
	Mode   Mode
	Delay  time.Duration // of Slow and Late; 0: 5 s
	Times  int           // for so many requests; 0: until another order
}

// switchboard is a region's fault and what it has been asked.
type switchboard struct {
	mu    sync.Mutex // guards all below
	fault Fault
	calls map[string]int // by operation
}

// SetFault gives an order to a region; the answers it holds back are not affected.
func (s *Server) SetFault(f Fault) error {
	r := s.regions[f.Region]
	if r == nil {
		return errors.New("kmsserver: no such region")
	}
	switch f.Mode {
	case Up, Down, Hang, Throttle, Deny, Broken, Slow, Late:
	default:
		return errors.New("kmsserver: no such mode")
	}
	if f.Delay < 0 || f.Times < 0 {
		return errors.New("kmsserver: a fault lasts for a time and a number of requests above zero")
	}
	if f.Delay == 0 {
		f.Delay = defaultDelay
	}
	r.fault.mu.Lock()
	defer r.fault.mu.Unlock()
	r.fault.fault = f
	return nil
}

// Calls counts the requests to a region by operation, those that met a fault included.
func (s *Server) Calls(region string) map[string]int {
	r := s.regions[region]
	if r == nil {
		return nil
	}
	r.fault.mu.Lock()
	defer r.fault.mu.Unlock()
	return maps.Clone(r.fault.calls)
}

// meet counts a request and says what becomes of it.
func (b *switchboard) meet(operation string) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls == nil {
		b.calls = make(map[string]int)
	}
	b.calls[operation]++
	f := b.fault
	if b.fault.Times > 0 {
		if b.fault.Times--; b.fault.Times == 0 {
			b.fault = Fault{}
		}
	}
	return f
}

// wait holds a request back; the connection is closed if it ends early.
func (s *Server) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	case <-s.closing:
		panic(http.ErrAbortHandler)
	}
}

// hang holds a request until the client or the server goes away.
func (s *Server) hang(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.closing:
	}
	panic(http.ErrAbortHandler)
}

// serveFaults is POST /_faults {region, mode, delay_ms?, times?}.
func (s *Server) serveFaults(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Region  string `json:"region"`
		Mode    Mode   `json:"mode"`
		DelayMS int    `json:"delay_ms,omitzero"`
		Times   int    `json:"times,omitzero"`
	}
	// The media type keeps web pages of other origins from turning switches unasked.
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "the body must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxBody), &in, json.RejectUnknownMembers(true)); err != nil {
		http.Error(w, "the body must be {region, mode, delay_ms?, times?}", http.StatusBadRequest)
		return
	}
	f := Fault{Region: in.Region, Mode: in.Mode, Delay: time.Duration(in.DelayMS) * time.Millisecond, Times: in.Times}
	if err := s.SetFault(f); err != nil {
		http.Error(w, "no such region, or not mode up|down|hang|throttle|deny|broken|slow|late", http.StatusUnprocessableEntity)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
