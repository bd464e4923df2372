// Package kmsserver serves AWS KMS's protocol for several regions at once, for
// development and tests: symmetric and Ed25519 keys, multi-Region keys with
// replicas, encryption contexts and key states, in AWS's shapes, with faults
// to order.
//
// The region of a request is that of its signature's credential scope; the
// signature itself is not verified, and there are no policies: whoever reaches
// the server may use every key and turn every switch. The master keys are
// localkms's, in files. What AWS does later or elsewhere is not imitated:
// nothing is deleted when a waiting period ends, nothing is eventually
// consistent, nothing is rotated, there are no aliases or grants.
package kmsserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/crypto/localkms"
)

const (
	account = "000000000000"
	// rootKey is the id of the key in every region that seals Ed25519 seeds.
	// It is no key of the service.
	rootKey = "kmsserver-root"

	keysFile  = "keys.json"  // localkms's
	stateFile = "state.json" // ours
)

// Config says what is served.
type Config struct {
	Dir     string   // for the keys: a directory per region
	Regions []string // one at least
	Now     func() time.Time
	Random  io.Reader // nil: crypto/rand; safe for concurrent use
}

// Server is an http.Handler: POST / is the service, GET /_health and /_keys
// and POST /_faults are its own.
type Server struct {
	config  Config
	regions map[string]*region
	handler http.Handler
	closing chan struct{}
	once    sync.Once

	mu sync.RWMutex // guards every region's keys
}

// region is one region's keys and its fault.
type region struct {
	name  string
	local *localkms.KMS
	keys  map[string]*key // by ARN
	fault switchboard
}

// key is what localkms does not keep. A disabled key and one that is to be
// deleted are both disabled there.
type key struct {
	Spec        string    `json:"spec"`
	Description string    `json:"description,omitzero"`
	Created     time.Time `json:"created"`
	Disabled    bool      `json:"disabled,omitzero"`
	Deletion    time.Time `json:"deletion,omitzero"`
	// Primary is the region where a multi-Region key was created.
	Primary string `json:"primary,omitzero"`
	// Seed is an Ed25519 key's seed, sealed under the region's root key.
	Seed []byte `json:"seed,omitzero"`
}

// Open opens the regions in Dir and makes those that are not there, without keys.
func Open(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	s := &Server{config: c, regions: make(map[string]*region), closing: make(chan struct{})}
	for _, name := range c.Regions {
		if name == "" || strings.ContainsAny(name, `/\:.`) || s.regions[name] != nil {
			return nil, fmt.Errorf("kmsserver: %q is no region's name, or there twice", name)
		}
		r, err := s.openRegion(name)
		if err != nil {
			return nil, fmt.Errorf("kmsserver: region %s: %w", name, err)
		}
		s.regions[name] = r
	}
	if len(s.regions) == 0 {
		return nil, errors.New("kmsserver: no region")
	}
	s.handler = s.routes()
	return s, nil
}

// Close ends every answer that is held back, so that an HTTP server can shut down.
func (s *Server) Close() { s.once.Do(func() { close(s.closing) }) }

func (s *Server) openRegion(name string) (*region, error) {
	c := localkms.Config{
		Path: filepath.Join(s.config.Dir, name, keysFile), Region: name, Random: s.config.Random, FirstKey: rootKey,
	}
	local, err := localkms.Open(c)
	if errors.Is(err, fs.ErrNotExist) {
		local, err = localkms.Create(c)
	}
	if err != nil {
		return nil, err
	}
	r := &region{name: name, local: local, keys: make(map[string]*key)}
	text, err := os.ReadFile(s.statePath(r))
	if err == nil {
		err = json.Unmarshal(text, &r.keys)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the keys' state: %w", err)
	}
	known := local.Keys()
	for arn := range r.keys {
		if !slices.Contains(known, arn) {
			return nil, errors.New("a key has a state and no material")
		}
	}
	return r, nil
}

func (s *Server) statePath(r *region) string {
	return filepath.Join(s.config.Dir, r.name, stateFile)
}

// saveLocked replaces the state by one that is complete. A key's material is
// there before it is mentioned here.
func (s *Server) saveLocked(r *region) error {
	text, err := json.Marshal(r.keys, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("kmsserver: encode the keys' state: %w", err)
	}
	path := s.statePath(r)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("kmsserver: save the keys' state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("kmsserver: save the keys' state: %w", err)
	}
	return nil
}

// Region is a region's keys, sorted by ARN.
type Region struct {
	Name string `json:"name"`
	Keys []Key  `json:"keys"`
}

// Key is a key as Regions lists it.
type Key struct {
	ARN         string `json:"arn"`
	Spec        string `json:"spec"`
	State       string `json:"state"`
	MultiRegion bool   `json:"multi_region"`
}

// Regions lists all keys, in the order of Config.Regions.
func (s *Server) Regions() []Region {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Region
	for _, name := range s.config.Regions {
		r := Region{Name: name, Keys: []Key{}}
		for arn, k := range s.regions[name].keys {
			r.Keys = append(r.Keys, Key{ARN: arn, Spec: k.Spec, State: k.state(), MultiRegion: k.Primary != ""})
		}
		slices.SortFunc(r.Keys, func(a, b Key) int { return strings.Compare(a.ARN, b.ARN) })
		all = append(all, r)
	}
	return all
}
