package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
)

// renewEvery is how often the files of a certificate are looked at, at most.
const renewEvery = 10 * time.Second

// certificate is the listener's, with the CA of its clients', read again when
// their files change: what renews them need not restart the instance. A change
// that cannot be used is logged, and what was before stays.
type certificate struct {
	files  config.TLS
	now    func() time.Time
	logger zerolog.Logger

	mu       sync.Mutex // guards what follows
	current  *tls.Certificate
	clients  *x509.CertPool // nil: no client CA
	modified [3]time.Time
	looked   time.Time
}

func newCertificate(files config.TLS, now func() time.Time, logger zerolog.Logger) (*certificate, error) {
	c := &certificate{files: files, now: now, logger: logger, looked: now()}
	c.modified = c.times()
	var err error
	c.current, c.clients, err = c.load()
	return c, err
}

// config is what a listener needs. With a client CA no session is resumed: a
// handshake verifies the client's certificate every time.
func (c *certificate) config() *tls.Config {
	base := &tls.Config{
		MinVersion:     c.files.MinVersion,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
	if c.files.ClientCA == "" {
		return base
	}
	base.ClientAuth, base.SessionTicketsDisabled = c.files.ClientAuth, true
	base.NextProtos = []string{"h2", "http/1.1"} // net/http adds them to its own copy only
	answer := base.Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		config := answer.Clone()
		config.ClientCAs = c.clientCAs()
		return config, nil
	}
	return base
}

func (c *certificate) clientCAs() *x509.CertPool {
	c.get()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients
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
		renewed, clients, err := c.load()
		if err != nil {
			c.logger.Error().Err(err).Msg("the changed certificate is not used")
			return c.current
		}
		c.current, c.clients = renewed, clients
		c.logger.Info().Time("expires", renewed.Leaf.NotAfter).Msg("the certificate is renewed")
	}
	return c.current
}

func (c *certificate) load() (*tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, nil, errors.New("tls.cert and tls.key cannot be read, or do not belong together")
	}
	if c.files.ClientCA == "" {
		return &pair, nil, nil
	}
	clients := x509.NewCertPool()
	text, err := os.ReadFile(c.files.ClientCA)
	if err != nil || !clients.AppendCertsFromPEM(text) {
		return nil, nil, errors.New("tls.client_ca cannot be read, or holds no certificate")
	}
	return &pair, clients, nil
}

// times are those of the files' last changes, zero where a file is not there.
func (c *certificate) times() (modified [3]time.Time) {
	for i, file := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(file); err == nil {
			modified[i] = info.ModTime()
		}
	}
	return modified
}
