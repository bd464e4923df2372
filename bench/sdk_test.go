package main

import (
	"maps"
	"testing"
)

// A request calls DynamoDB and KMS as often as the design's minimum does
// (design §4, §5), of every kind, single and in batches.
func TestCallsAreTheMinimum(t *testing.T) {
	w, err := newSDKWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, l := range w.loads() {
		if err := l.prepare(t.Context()); err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		ours, theirs, err := l.calls(t.Context())
		if err != nil || !maps.Equal(ours, theirs) {
			t.Errorf("%s: the vault calls %v, the minimum is %v; %v", l.name, ours, theirs, err)
		}
	}
}
