package wal

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/rs/zerolog"
)

// pebbleLog is Pebble's logger and event listener.
type pebbleLog struct {
	e      *Engine
	to     zerolog.Logger
	once   sync.Once
	parked chan struct{} // closed by the first Fatalf
}

// Infof drops Pebble's chatter.
func (l *pebbleLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l *pebbleLog) Errorf(format string, args ...any) {
	l.to.Error().Str("cause", fmt.Sprintf(format, args...)).Msg("storage engine error")
}

// Fatalf must not return: Pebble found itself broken, perhaps with locks held
// that unwinding would not release. It poisons the engine, fails every waiter
// and parks the goroutine for the rest of the process. No failed write leads
// here (see fence).
func (l *pebbleLog) Fatalf(format string, args ...any) {
	l.e.fence.poison(fmt.Errorf(format, args...))
	l.e.abandon(l.e.fence.err())
	l.once.Do(func() { close(l.parked) })
	select {}
}

// events poisons on failed background work, for whatever reason, and logs
// corruption that a read has met (the reader gets ErrCorrupt; what else is
// stored stays readable).
func (l *pebbleLog) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			l.e.fence.poison(fmt.Errorf("background work: %w", err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.to.Error().Str("path", info.Path).Msg("a table file is corrupt")
		},
	}
}
