package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
)

// servers are an instance's listeners: the API's first, then those of operators.
type servers struct {
	logger   zerolog.Logger
	drain    config.Drain
	draining *atomic.Bool // what /readyz asks
	list     []server
}

type server struct {
	what     string
	listener net.Listener
	server   *http.Server
}

// listen binds every address before any is served, so that a taken port is a
// clean failure.
func (s *servers) listen(ctx context.Context, cfg *config.Config, api, metrics http.Handler) error {
	var tlsConfig *tls.Config
	if cfg.TLS.Cert != "" {
		certificate, err := newCertificate(cfg.TLS, time.Now, s.logger)
		if err != nil {
			return err
		}
		tlsConfig = certificate.config()
	}
	operator := http.NewServeMux()
	operator.Handle("GET /metrics", metrics)
	for _, l := range []struct {
		what, address string
		handler       http.Handler
		tls           *tls.Config
	}{
		{"api", cfg.Listen, api, tlsConfig},
		{"metrics", cfg.Metrics, operator, nil},
		{"pprof", cfg.Pprof, profiles(), nil},
	} {
		if l.address == "" {
			continue
		}
		var lc net.ListenConfig
		listener, err := lc.Listen(ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
		s.list = append(s.list, server{l.what, listener, &http.Server{
			Handler: l.handler, TLSConfig: l.tls, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
			WriteTimeout: readTimeout + max(cfg.Limits.Timeout, time.Minute), // from the end of the header: both and an answer
			IdleTimeout:  idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(connectionFaults{s.logger, l.what}, "", 0),
		}})
	}
	return nil
}

// connectionFaults logs that net/http has something to say of a connection,
// and not what: it may quote what was sent.
type connectionFaults struct {
	logger   zerolog.Logger
	listener string
}

func (c connectionFaults) Write(p []byte) (int, error) {
	c.logger.Warn().Str("listener", c.listener).Bool("handshake", bytes.Contains(p, []byte("TLS handshake"))).Msg("a connection failed")
	return len(p), nil
}

func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// close closes listeners that are not served.
func (s *servers) close() error {
	var failures []error
	for _, l := range s.list {
		failures = append(failures, l.listener.Close())
	}
	return errors.Join(failures...)
}

// serve answers until ctx is done, a listener fails or the store is poisoned.
// Then /readyz says no, for drain.Wait where nothing is broken; then no more
// is accepted, and requests under way have drain.Timeout to finish.
func (s *servers) serve(ctx context.Context, poisoned <-chan error) error {
	failed := make(chan error, len(s.list))
	var wg sync.WaitGroup
	for _, l := range s.list {
		s.logger.Info().Str("listener", l.what).Str("addr", l.listener.Addr().String()).Bool("tls", l.server.TLSConfig != nil).Msg("serving")
		wg.Go(func() {
			if err := l.serve(); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.what, err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case err = <-poisoned:
	}
	s.draining.Store(true)
	if err == nil {
		s.logger.Info().Dur("wait_ms", s.drain.Wait).Msg("draining")
		err = waitOr(s.drain.Wait, failed, poisoned)
	}
	err = errors.Join(err, s.shutdown(context.WithoutCancel(ctx)))
	wg.Wait()
	s.logger.Info().Msg("stopped serving")
	return err
}

func (l *server) serve() error {
	if l.server.TLSConfig != nil {
		return l.server.ServeTLS(l.listener, "", "")
	}
	return l.server.Serve(l.listener)
}

func waitOr(d time.Duration, failed, poisoned <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-failed:
		return err
	case err := <-poisoned:
		return err
	}
}

// shutdown lets the API's requests finish first, so that metrics tell of them.
func (s *servers) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.drain.Timeout)
	defer cancel()
	var failures []error
	for _, l := range s.list {
		if err := l.server.Shutdown(ctx); err != nil {
			failures = append(failures, fmt.Errorf("requests of %s did not finish in time: %w", l.what, err), l.server.Close())
		}
	}
	return errors.Join(failures...)
}
