// Package api is the contract of the HTTP interface: openapi.yaml, and what is
// generated from it: models and the router that internal/httpapi serves, and
// package client. A test regenerates both and compares.
package api

import _ "embed" // the contract is served as it is

//go:generate go tool -modfile=../tools.mod oapi-codegen -config server.cfg.yaml openapi.yaml
//go:generate go tool -modfile=../tools.mod oapi-codegen -config client.cfg.yaml openapi.yaml

//go:embed openapi.yaml
var contract string

// Contract returns openapi.yaml.
func Contract() string { return contract }
