package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is shorter than what asks for health usually waits.
const healthTimeout = 3 * time.Second

func newHealthCommand(a *app) *cobra.Command {
	var file, url string
	cmd := &cobra.Command{
		Use:   "health --config FILE | --url URL",
		Short: "Ask the instance on this machine whether it is ready",
		Long: `Ask /readyz of the instance that a configuration describes, on this machine and
in the same environment: what a container's health check runs, where there is
no curl. With --url ask that address instead, such as a dev-kms's /_health.

Exit codes: 0 ready; 1 not ready, or no answer; 2 wrong usage.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if url != "" && file != "" {
				return usagef("--config and --url exclude each other")
			}
			own := url == ""
			if own {
				cfg, err := a.loadConfig(file)
				if err != nil {
					return err
				}
				if url, err = readyURL(cfg.Listen, cfg.TLS.Cert != ""); err != nil {
					return err
				}
			}
			return askHealth(cmd.Context(), url, own)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&url, "url", "", "address to ask instead")
	return cmd
}

// readyURL is where this machine reaches an instance that listens there.
func readyURL(listen string, secure bool) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", usagef("listen in the configuration names no port to ask: give --url")
	}
	ip := net.ParseIP(host)
	switch {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/readyz", nil
}

// askHealth wants an answer of 2xx. Of its own machine's instance it does not
// verify the certificate, which names what clients call: nothing is sent that
// anybody else may not have.
func askHealth(ctx context.Context, url string, own bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return usagef("--url is not an http:// or https:// URL")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: own}} //nolint:gosec // see above
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req) // no proxy, no redirects
	if err != nil {
		return errors.New("no answer")
	}
	if err := res.Body.Close(); err != nil || res.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %d", res.StatusCode)
	}
	return nil
}
