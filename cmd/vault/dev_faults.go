package main

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"piivault/internal/sim"
)

// maxFault bounds the body of /dev/faults.
const maxFault = 4 << 10

// faultsHandler turns fault switches: `vault dev` only.
func faultsHandler(world *sim.World) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Region string `json:"region"`
			KMS    string `json:"kms,omitempty"`
			Link   string `json:"link,omitempty"`
		}
		// The media type keeps web pages of other origins from turning switches unasked.
		if r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "the body must be application/json", http.StatusUnsupportedMediaType)
			return
		}
		if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxFault), &in, json.RejectUnknownMembers(true)); err != nil {
			http.Error(w, "the body must be {region, kms?, link?}", http.StatusBadRequest)
			return
		}
		if err := world.Set(sim.Fault{Region: in.Region, KMS: in.KMS, Link: in.Link}); err != nil {
			http.Error(w, "no such region, or not kms up|down|slow|denied, link up|down", http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
