package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
)

// TestCertificateIsRenewed: new files are used without a restart, halves and
// rubbish are not.
func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	files := config.TLS{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := newCertificate(files, time.Now, zerolog.Nop()); err == nil {
		t.Error("no files are a certificate")
	}
	renew := func() {
		certify(t, dir)
		now = now.Add(renewEvery)
		for _, f := range []string{files.Cert, files.Key} {
			if err := os.Chtimes(f, now, now); err != nil { // a clock of files is coarse
				t.Fatal(err)
			}
		}
	}
	renew()
	c, err := newCertificate(files, func() time.Time { return now }, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	first := c.get()
	renew()
	second := c.get()
	if bytes.Equal(first.Certificate[0], second.Certificate[0]) {
		t.Error("a renewed certificate is not used")
	}
	writeFile(t, files.Key, "rubbish")
	now = now.Add(renewEvery)
	if third := c.get(); third != second {
		t.Error("a certificate without its key is used")
	}
	renew()
	now = now.Add(renewEvery / 2)
	if last := c.get(); last == second {
		t.Error("a certificate that was mended is not used")
	}
}
