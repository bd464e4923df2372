package kmsserver_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine that a test starts, held answers included, has ended with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
