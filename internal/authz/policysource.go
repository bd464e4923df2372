package authz

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	defaultReloadEvery = 2 * time.Second
	// maxPolicyFile and maxPolicyFiles bound what a directory may hold.
	maxPolicyFile  = 1 << 20
	maxPolicyFiles = 1000
)

// PolicySourceConfig says where policies come from.
type PolicySourceConfig struct {
	Dir         string        // of *.cedar and *.cases.json; "": the default set, which never changes
	Claims      ClaimTypes    // that the policies may ask for
	ReloadEvery time.Duration // how often Run looks; 0: two seconds
	Logger      zerolog.Logger
}

// PolicySource holds the set of policies in force and changes it as a whole.
// All methods are safe for concurrent use.
type PolicySource struct {
	cfg     PolicySourceConfig
	current atomic.Pointer[Policies]
	failed  atomic.Uint64

	mu      sync.Mutex // guards what follows
	seen    digest     // of the files that were last judged
	pending digest     // of the files when Run last looked
}

// NewPolicySource loads the set; one that ParsePolicies refuses is an error.
func NewPolicySource(cfg PolicySourceConfig) (*PolicySource, error) {
	cfg.ReloadEvery = cmp.Or(cfg.ReloadEvery, defaultReloadEvery)
	s := &PolicySource{cfg: cfg}
	if cfg.Dir == "" {
		p, err := cfg.Claims.defaultPolicies()
		s.current.Store(p)
		return s, err
	}
	files, err := ReadPolicies(cfg.Dir)
	if err != nil {
		return nil, err
	}
	p, err := cfg.Claims.ParsePolicies(files)
	if err != nil {
		return nil, err
	}
	s.current.Store(p)
	s.seen = digestOf(files)
	return s, nil
}

// FixedPolicies is a source of one set for ever.
func FixedPolicies(p *Policies) *PolicySource {
	s := &PolicySource{}
	s.current.Store(p)
	return s
}

// Current is the set in force now. A use case asks once, so that what it
// decides and what it writes down come from one set.
func (s *PolicySource) Current() *Policies { return s.current.Load() }

// Failures counts the reloads that were refused.
func (s *PolicySource) Failures() uint64 { return s.failed.Load() }

// Run looks for changed files until ctx ends. They are judged when it finds
// them twice alike: while an editor or a copy is at work, half of a change
// could be a set that permits more than either end of it.
func (s *PolicySource) Run(ctx context.Context) {
	if s.cfg.Dir == "" {
		return
	}
	ticker := time.NewTicker(s.cfg.ReloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.look(false)
		}
	}
}

// Reload judges the files as they are now. A set that is whole and passes its own cases
// takes the place of the one in force; any other leaves it there, counts, and
// is logged once.
func (s *PolicySource) Reload() {
	if s.cfg.Dir != "" {
		s.look(true)
	}
}

func (s *PolicySource) look(atOnce bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := ReadPolicies(s.cfg.Dir)
	found := digestOf(files)
	if err != nil {
		found = sha256.Sum256([]byte(err.Error()))
	}
	settled := found == s.pending
	s.pending = found
	if found == s.seen || !settled && !atOnce {
		return
	}
	s.seen = found
	var p *Policies
	if err == nil {
		p, err = s.cfg.Claims.ParsePolicies(files)
	}
	if err != nil {
		s.refused(err)
		return
	}
	s.current.Store(p)
	s.cfg.Logger.Info().Str("policy_set", p.Hash()).Msg("new policies are in force")
}

// refused tells where the mistake is and not what: a parser's text may quote
// the policy.
func (s *PolicySource) refused(err error) {
	s.failed.Add(1)
	event := s.cfg.Logger.Error().Str("policy_set", s.Current().Hash())
	if at, ok := errors.AsType[*PolicyError](err); ok {
		event = event.Str("file", at.File).Int("line", at.Line)
	}
	event.Msg("the policy files are wrong: the policies that were in force stay")
}

// ReadPolicies reads the files of a directory, by name, as ParsePolicies takes
// them. Hidden files and a copy of the schema, which is for editors only, are
// left out: the vault has its own.
func ReadPolicies(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: the directory cannot be read: %w", ErrPolicies, err)
	}
	files := make(map[string][]byte)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Name() == schemaFile {
			continue
		}
		if len(files) == maxPolicyFiles {
			return nil, fmt.Errorf("%w: more than %d files", ErrPolicies, maxPolicyFiles)
		}
		if files[e.Name()], err = readPolicyFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, &PolicyError{File: e.Name(), Err: err}
		}
	}
	return files, nil
}

func readPolicyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case info.Size() > maxPolicyFile:
		return nil, errors.New("it is larger than 1 MiB")
	}
	return os.ReadFile(path)
}

// DefaultPolicyFiles are the files of the default set, its schema too, to
// start one's own from.
func DefaultPolicyFiles() (map[string][]byte, error) {
	entries, err := policyFiles.ReadDir(policyDir)
	if err != nil {
		return nil, fmt.Errorf("read the default policies: %w", err)
	}
	files := make(map[string][]byte)
	for _, e := range entries {
		if files[e.Name()], err = fs.ReadFile(policyFiles, policyDir+"/"+e.Name()); err != nil {
			return nil, fmt.Errorf("read the default policies: %w", err)
		}
	}
	return files, nil
}

// digestOf tells whether anything changed, cases included.
func digestOf(files map[string][]byte) digest {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		content := sha256.Sum256(files[name])
		h.Write([]byte(name + "\x00"))
		h.Write(content[:])
	}
	return digest(h.Sum(nil))
}
