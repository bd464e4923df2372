package kmsserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"piivault/internal/secret"
)

// The key specs that are served.
const (
	Symmetric = "SYMMETRIC_DEFAULT"
	Ed25519   = "ECC_NIST_EDWARDS25519"
)

// The states of a key.
const (
	stateEnabled         = "Enabled"
	stateDisabled        = "Disabled"
	statePendingDeletion = "PendingDeletion"
)

const (
	arnPrefix         = "arn:aws:kms:"
	multiRegionPrefix = "mrk-"
)

// KeySpec describes a key to be made.
type KeySpec struct {
	Region      string
	ID          string // "": random; "mrk-" starts a multi-Region key's
	Spec        string // "": Symmetric
	MultiRegion bool
	Description string
}

// CreateKey makes a key and returns its ARN once it is on disk.
func (s *Server) CreateKey(spec KeySpec) (string, error) {
	r := s.regions[spec.Region]
	if r == nil {
		return "", errors.New("kmsserver: no such region")
	}
	if spec.Spec == "" {
		spec.Spec = Symmetric
	}
	if spec.ID != "" {
		spec.MultiRegion = strings.HasPrefix(spec.ID, multiRegionPrefix)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &key{Spec: spec.Spec, Description: spec.Description, Created: s.config.Now().UTC().Truncate(time.Millisecond)}
	if spec.MultiRegion {
		k.Primary = spec.Region
	}
	if k.Spec == Ed25519 {
		var err error
		if k.Seed, err = s.newSeed(r); err != nil {
			return "", err
		}
	}
	create := func() (string, error) { return r.local.CreateKey(spec.MultiRegion) }
	if spec.ID != "" {
		create = func() (string, error) { return r.local.CreateKeyAs(spec.ID) }
	}
	arn, err := create()
	if err != nil {
		return "", fmt.Errorf("kmsserver: %w", err)
	}
	r.keys[arn] = k
	return arn, s.saveLocked(r)
}

// Replicate makes a replica of a multi-Region key in another region, once.
func (s *Server) Replicate(keyARN, to string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, into := s.regions[regionOf(keyARN)], s.regions[to]
	if from == nil || into == nil || from.keys[keyARN] == nil {
		return "", errors.New("kmsserver: no such key or region")
	}
	replica := *from.keys[keyARN]
	if replica.Seed != nil {
		seed, err := s.openSeed(from, replica.Seed)
		if err != nil {
			return "", err
		}
		defer seed.Wipe()
		if replica.Seed, err = into.local.Encrypt(context.Background(), into.root(), seed, nil); err != nil {
			return "", fmt.Errorf("kmsserver: seal a seed: %w", err)
		}
	}
	arn, err := into.local.Replicate(from.local, keyARN)
	if err != nil {
		return "", fmt.Errorf("kmsserver: %w", err)
	}
	replica.Created = s.config.Now().UTC().Truncate(time.Millisecond)
	replica.Disabled, replica.Deletion = false, time.Time{}
	into.keys[arn] = &replica
	return arn, s.saveLocked(into)
}

// SetEnabled enables or disables a key that is not to be deleted.
func (s *Server) SetEnabled(keyARN string, enabled bool) error {
	return s.update(keyARN, func(k *key) error {
		if !k.Deletion.IsZero() {
			return pendingDeletion(keyARN)
		}
		k.Disabled = !enabled
		return nil
	})
}

// ScheduleDeletion makes a key unusable until CancelDeletion; it stays so
// when the date has passed.
func (s *Server) ScheduleDeletion(keyARN string, wait time.Duration) error {
	return s.update(keyARN, func(k *key) error {
		if !k.Deletion.IsZero() {
			return pendingDeletion(keyARN)
		}
		k.Deletion = s.config.Now().Add(wait).UTC().Truncate(time.Millisecond)
		return nil
	})
}

// CancelDeletion leaves the key disabled, as AWS does.
func (s *Server) CancelDeletion(keyARN string) error {
	return s.update(keyARN, func(k *key) error {
		if k.Deletion.IsZero() {
			return refused("KMSInvalidStateException", keyARN+" is not pending deletion.")
		}
		k.Deletion, k.Disabled = time.Time{}, true
		return nil
	})
}

// update changes a key's state, and what localkms keeps of it: enabled or not.
func (s *Server) update(keyARN string, change func(*key) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.regions[regionOf(keyARN)]
	if r == nil || r.keys[keyARN] == nil {
		return errors.New("kmsserver: no such key")
	}
	changed := *r.keys[keyARN]
	if err := change(&changed); err != nil {
		return err
	}
	if err := r.local.SetDisabled(keyARN, changed.state() != stateEnabled); err != nil {
		return fmt.Errorf("kmsserver: %w", err)
	}
	r.keys[keyARN] = &changed
	return s.saveLocked(r)
}

func (k key) state() string {
	switch {
	case !k.Deletion.IsZero():
		return statePendingDeletion
	case k.Disabled:
		return stateDisabled
	default:
		return stateEnabled
	}
}

func (r *region) root() string { return r.arn(rootKey) }

func (r *region) arn(id string) string { return ARN(r.name, id) }

// ARN is that of the key with this id in a region.
func ARN(region, id string) string { return arnPrefix + region + ":" + account + ":key/" + id }

// regionOf is the fourth part of an ARN, "" of anything else.
func regionOf(arn string) string {
	rest, ok := strings.CutPrefix(arn, arnPrefix)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, ":")
	return name
}

func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func (s *Server) newSeed(r *region) ([]byte, error) {
	seed, err := secret.GenerateKey(s.config.Random)
	if err != nil {
		return nil, fmt.Errorf("kmsserver: draw a seed: %w", err)
	}
	defer seed.Wipe()
	sealed, err := r.local.Encrypt(context.Background(), r.root(), seed, nil)
	if err != nil {
		return nil, fmt.Errorf("kmsserver: seal a seed: %w", err)
	}
	return sealed, nil
}

func (s *Server) openSeed(r *region, sealed []byte) (secret.Key, error) {
	seed, err := r.local.Decrypt(context.Background(), r.root(), sealed, nil)
	if err != nil {
		return secret.Key{}, fmt.Errorf("kmsserver: open a seed: %w", err)
	}
	return seed, nil
}

func (s *Server) private(r *region, k key) (ed25519.PrivateKey, error) {
	seed, err := s.openSeed(r, k.Seed)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	return ed25519.NewKeyFromSeed(seed.Bytes()), nil
}
