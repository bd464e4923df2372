package dynamo

import (
	"context"
	"errors"
	"time"

	"piivault/internal/awshttp"
)

const (
	// maxAttempts bounds a call whose context has no deadline, and what a fault
	// of the service is loaded with in addition.
	maxAttempts = 10
	firstPause  = 25 * time.Millisecond
	longPause   = time.Second
)

// call tries until there is an answer, the fault is not one that passes, or
// the context ends. again reports that an attempt before the last may have
// been applied: then a condition that failed may have met our own write.
func (c *Client) call(ctx context.Context, op string, try func(context.Context) error) (again bool, err error) {
	awshttp.Deepen()
	for attempt := 1; ; attempt++ {
		f, err := c.once(ctx, try)
		if err == nil {
			return again, nil
		}
		if s := (*stop)(nil); errors.As(err, &s) {
			return again, s.err
		}
		if !f.retry || attempt == maxAttempts || c.pause(ctx, attempt) != nil {
			return again, failed(ctx, op, f)
		}
		again = again || f.applied
	}
}

func (c *Client) once(ctx context.Context, try func(context.Context) error) (fault, error) {
	ctx, cancel := context.WithTimeout(ctx, c.attempt)
	defer cancel()
	err := try(ctx)
	if err == nil {
		return fault{}, nil
	}
	return faultOf(err), err
}

// pause waits before another attempt, a jittered and growing time. One that
// does not fit into the context ends with it.
func (c *Client) pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(c.jitter(min(firstPause<<(attempt-1), longPause)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ctx.Err()
	}
}

// stop carries an error of our own, of a callback, past all judgement.
type stop struct{ err error }

func (s *stop) Error() string { return s.err.Error() }
