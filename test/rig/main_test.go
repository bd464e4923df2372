package rig_test

import (
	"flag"
	"net/http"
	"os"
	"sync"
	"testing"

	"piivault/internal/httpapi/apitest"
	"piivault/internal/sim/rig"
)

var ground *rig.Ground

// peopleFile is what the main job takes: for a full-size run,
//
//	go test -run TestPeople -v -timeout 30m ./test/rig -people FILE
var peopleFile = flag.String("people", "../../internal/pii/testdata/people.jsonl", "JSON lines of people for the main job")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(rig.Main(m, &ground))
}

// loaded is the contract, loaded once for all tests.
var loaded struct {
	once     sync.Once
	contract *apitest.Contract
}

// newRig starts a deployment whose every answer is held against the contract.
func newRig(t *testing.T, c rig.Config) *rig.Rig {
	t.Helper()
	loaded.once.Do(func() { loaded.contract = apitest.New(t) })
	contract := loaded.contract.For(t)
	c.Transport = func(next http.RoundTripper) http.RoundTripper { return contract.Transport(next) }
	return rig.New(t, ground, c)
}
