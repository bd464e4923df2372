package crypto_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine that a test starts, probes included, has ended with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
