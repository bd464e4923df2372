package main

import (
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"piivault/cmd/vault/internal/fakevault"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vault": main})
}

// TestScripts runs the command lines of testdata/script, each against a fake
// vault of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			vault := fakevault.New()
			server := httptest.NewServer(vault)
			env.Defer(server.Close)
			env.Values[vaultKey{}] = vault
			env.Setenv("VAULT_ADDR", server.URL)
			env.Setenv("VAULT_KEY", fakevault.Key)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fault": scriptFault,
			"masked": func(ts *testscript.TestScript, _ bool, _ []string) {
				scriptVault(ts).Change(func(s *fakevault.Server) { s.Masked = true })
			},
			"stored": scriptStored,
		},
	})
}

type vaultKey struct{}

func scriptVault(ts *testscript.TestScript) *fakevault.Server {
	return ts.Value(vaultKey{}).(*fakevault.Server) //nolint:errcheck // Setup put it there
}

// fault PATH FROM STATUS CODE: requests to PATH from the FROM-th on fail.
func scriptFault(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		scriptVault(ts).Change(func(s *fakevault.Server) { s.Before = nil })
		return
	}
	from, err := strconv.Atoi(args[1])
	ts.Check(err)
	status, err := strconv.Atoi(args[2])
	ts.Check(err)
	fault := &fakevault.Fault{Status: status, Code: args[3]}
	scriptVault(ts).Change(func(s *fakevault.Server) {
		s.Before = func(path string, n int) *fakevault.Fault {
			if path == args[0] && n >= from {
				return fault
			}
			return nil
		}
	})
}

// stored N: the vault holds N records.
func scriptStored(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(len(scriptVault(ts).Records())); got != args[0] {
		ts.Fatalf("the vault holds %s records, not %s", got, args[0])
	}
}
