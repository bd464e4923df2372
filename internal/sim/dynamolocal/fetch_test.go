package dynamolocal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"piivault/internal/dynamo"
)

// A file that is not the one that was first fetched is refused, not run.
func TestVerify(t *testing.T) {
	lib := t.TempDir()
	if err := verify(lib); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	_, name, _ := strings.Cut(strings.TrimSpace(strings.SplitN(sums, "\n", 2)[0]), "  ")
	if err := os.WriteFile(filepath.Join(lib, name), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(lib); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another file: %v", err)
	}
}

// Accounts and regions each have tables of their own, and a server ends with Stop.
func TestServer(t *testing.T) {
	s, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if s.cmd.ProcessState == nil || !s.cmd.ProcessState.Exited() {
			t.Error("the server runs on")
		}
	}()
	a, b := s.Account(), s.Account()
	for name, account := range map[string]struct {
		Account
		region string
	}{"one": {a, "eu-west-1"}, "another region": {a, "us-east-1"}, "another account": {b, "eu-west-1"}} {
		if there, err := put(t, account.Account, account.region); err != nil || there {
			t.Errorf("%s: there %v, %v", name, there, err)
		}
	}
	if there, err := put(t, a, "eu-west-1"); err != nil || !there {
		t.Errorf("the same: there %v, %v", there, err)
	}
}

func put(t *testing.T, a Account, region string) (there bool, err error) {
	t.Helper()
	c := a.Client(t, region)
	if err := dynamo.CreateTables(t.Context(), c, dynamo.Names{Control: "control"}); err != nil {
		t.Fatal(err)
	}
	item, _, err := c.PutNew(t.Context(), "control", dynamo.Key{PK: "a", SK: "b"}.Item())
	return item != nil, err
}
