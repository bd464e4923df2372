package mototest_test

import (
	"net/http"
	"testing"

	"piivault/internal/sim/kmsserver/mototest"
)

func TestStart(t *testing.T) {
	var address string
	t.Run("running", func(t *testing.T) {
		address = mototest.Start(t)
		get(t, address, true)
	})
	get(t, address, false)
}

// get tells whether a server is there.
func get(t *testing.T, address string, want bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/moto-api/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		err = response.Body.Close()
	}
	if (err == nil) != want {
		t.Errorf("there: %v, want %v", err, want)
	}
}
