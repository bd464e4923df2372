package kms

import "net/http"

// Over is New with another transport.
func Over(c Config, transport http.RoundTripper) *KMS {
	return over(c, &http.Client{Transport: transport})
}
