package main

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"piivault/client"
)

const defaultAddress = "http://127.0.0.1:8201"

// connect returns a client as the environment says. It sends nothing.
func (a *app) connect(cfg client.Config) (*client.Client, error) {
	address := a.getenv("VAULT_ADDR")
	if address == "" {
		address = defaultAddress
	}
	if err := a.guardAddress(address); err != nil {
		return nil, err
	}
	key, err := a.credential()
	if err != nil {
		return nil, err
	}
	c, err := client.New(address, key, cfg)
	if err != nil {
		return nil, usagef("VAULT_ADDR: %v", err)
	}
	return c, nil
}

// guardAddress keeps values and credentials from crossing a network in clear.
func (a *app) guardAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return usagef("VAULT_ADDR must be a URL such as %s, without a user", defaultAddress)
	}
	if u.Scheme != "http" || loopback(u.Hostname()) || a.getenv("VAULT_ALLOW_HTTP") == "true" {
		return nil
	}
	return usagef("VAULT_ADDR: values would cross the network in clear: use https://, or set VAULT_ALLOW_HTTP=true")
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, section 6.3
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (a *app) credential() (string, error) {
	key := a.getenv("VAULT_KEY")
	if path := a.getenv("VAULT_KEY_FILE"); key == "" && path != "" {
		b, err := a.readFile(path)
		if err != nil {
			return "", fmt.Errorf("VAULT_KEY_FILE: %w", err)
		}
		key = string(b)
	}
	key = strings.TrimSpace(key)
	if key == "" {
		return "", usagef("set VAULT_KEY, or VAULT_KEY_FILE to a file that holds it (`vault dev` writes .vault-dev/dev.key)")
	}
	return key, nil
}

// call connects and makes one call.
func call[T any](ctx context.Context, a *app, do func(context.Context, *client.Client) (T, error)) (answer T, err error) {
	c, err := a.connect(client.Config{})
	if err != nil {
		return answer, err
	}
	return do(ctx, c)
}
