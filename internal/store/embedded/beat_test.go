package embedded_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/store/embedded"
	"piivault/internal/wal"
)

// The stored bytes of docs/design/format.md §5; the row replicates.
func TestBeatRow(t *testing.T) {
	e := engine(t, options("/data", vfs.NewMem()))
	s := embedded.New(e)
	if err := s.Beat(t.Context(), "eu-west-1", 1_700_000_000_000); err != nil {
		t.Fatal(err)
	}
	value, err := e.Get(embedded.TableID, []byte("\x00Heu-west-1"))
	if got := hex.EncodeToString(value); got != "010000018bcfe56800" || err != nil {
		t.Errorf("value %s, %v", got, err)
	}
	changes, err := e.Outbox(0, 10)
	if len(changes) != 1 || err != nil {
		t.Fatalf("%d changes to replicate, %v", len(changes), err)
	}
	replicas, err := e.Export(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	o := options("/data", vfs.NewMem())
	o.Region = "us-east-1"
	there := engine(t, o)
	if err := there.Apply(t.Context(), replicas); err != nil {
		t.Fatal(err)
	}
	if beats, err := embedded.New(there).Beats(t.Context()); beats["eu-west-1"] != 1_700_000_000_000 || err != nil {
		t.Errorf("heartbeats %v, %v", beats, err)
	}
}

func TestBadBeatsAreRefused(t *testing.T) {
	for _, value := range []string{"", "\x01", "\x02\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if err := embedded.CheckBeat([]byte("\x00Heu-west-1"), []byte(value)); !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("%q was taken", value)
		}
	}
}
