package kms_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine that a test starts, connections included, has ended with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
