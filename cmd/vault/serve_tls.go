package main

import (
	"crypto/tls"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
)

// renewEvery is how often the files of a certificate are looked at, at most.
const renewEvery = 10 * time.Second

// certificate is the listener's, read again when its files change: what renews
// it need not restart the instance. A change that cannot be used is logged,
// and the one before stays.
type certificate struct {
	files  config.TLS
	now    func() time.Time
	logger zerolog.Logger

	mu       sync.Mutex // guards what follows
	current  *tls.Certificate
	modified [2]time.Time
	looked   time.Time
}

func newCertificate(files config.TLS, now func() time.Time, logger zerolog.Logger) (*certificate, error) {
	c := &certificate{files: files, now: now, logger: logger, looked: now()}
	c.modified = c.times()
	var err error
	c.current, err = c.load()
	return c, err
}

// config is what a listener needs.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     c.files.MinVersion,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.looked) < renewEvery {
		return c.current
	}
	c.looked = now
	if modified := c.times(); modified != c.modified {
		c.modified = modified
		renewed, err := c.load()
		if err != nil {
			c.logger.Error().Err(err).Msg("the changed certificate is not used")
			return c.current
		}
		c.current = renewed
		c.logger.Info().Time("expires", renewed.Leaf.NotAfter).Msg("the certificate is renewed")
	}
	return c.current
}

func (c *certificate) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, errors.New("tls.cert and tls.key cannot be read, or do not belong together")
	}
	return &pair, nil
}

// times are those of the files' last changes, zero where a file is not there.
func (c *certificate) times() (modified [2]time.Time) {
	for i, file := range []string{c.files.Cert, c.files.Key} {
		if info, err := os.Stat(file); err == nil {
			modified[i] = info.ModTime()
		}
	}
	return modified
}
