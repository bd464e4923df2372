package authz

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// poller reads the local table again and again, and knows when it could not
// for too long: the rule of staleAfter.
type poller struct {
	every   time.Duration
	refresh func(context.Context) error
	logger  zerolog.Logger
	fails   string // log messages
	works   string

	stale atomic.Bool
}

// run polls until ctx ends. With a period above two seconds what it learns,
// and that it cannot, takes two and a half polls.
func (p *poller) run(ctx context.Context) {
	limit := max(staleAfter, p.every*5/2)
	watchdog := time.AfterFunc(limit, func() { p.stale.Store(true) })
	defer watchdog.Stop()
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	failing := false
	for {
		begun := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			// What is known is as old as the beginning of its poll.
			watchdog.Reset(limit - time.Since(begun))
			p.stale.Store(false)
		}
		p.logChange(failing, err)
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *poller) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.every)
	defer cancel()
	return p.refresh(ctx)
}

func (p *poller) logChange(wasFailing bool, err error) {
	switch {
	case err != nil && !wasFailing:
		p.logger.Warn().Err(err).Msg(p.fails)
	case err == nil && wasFailing:
		p.logger.Info().Msg(p.works)
	}
}
