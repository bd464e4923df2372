package bulk

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"piivault/cmd/vault/internal/rows"
)

// A kill costs at most so much work: what was written since the last note in
// the journal is exchanged again, for the same tokens.
const (
	syncEvery   = 250 * time.Millisecond
	syncBatches = 32
)

// run is one run. Three kinds of goroutines share it: the cutter owns reader
// and pending, the writer owns files and state, the workers own a batch each
// between the channels.
type run struct {
	c      Config
	reader *rows.Reader
	files  *files
	total  int64      // bytes of the input, 0: not known
	state  checkpoint // what is written
	ended  atomic.Bool

	pending *entry // read, but belongs to the next batch
}

// pump runs cutter, workers and writer until the input ends, ctx is done or
// something fails, and waits for all of them.
func (r *run) pump(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *batch)
	order := make(chan *batch, r.c.Parallel)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		r.cut(ctx, work, order)
		return nil
	})
	for range r.c.Parallel {
		g.Go(func() error {
			for b := range work {
				b.err = r.settle(ctx, b, b.live())
				close(b.done)
			}
			return nil
		})
	}
	g.Go(func() error { return r.write(order) })
	return g.Wait()
}

// cut makes batches until the end of the input or of ctx. A batch that is in
// order is always done sooner or later; a reading error travels in one of its
// own, for the batches before it count.
func (r *run) cut(ctx context.Context, work, order chan<- *batch) {
	for ordinal := r.state.Batches; ctx.Err() == nil; ordinal++ {
		b := r.nextBatch(ordinal)
		if errors.Is(b.err, io.EOF) {
			r.ended.Store(true)
			return
		}
		failed := b.err != nil
		select {
		case order <- b:
		case <-ctx.Done():
			return
		}
		if failed {
			close(b.done)
			return
		}
		select {
		case work <- b:
		case <-ctx.Done():
			b.err = ctx.Err()
			close(b.done)
		}
	}
}

func (r *run) write(order <-chan *batch) error {
	synced := r.c.Now()
	for b := range order {
		<-b.done
		if b.err != nil {
			return b.err
		}
		if err := r.writeBatch(b); err != nil {
			return err
		}
		r.c.Progress.Update(Status{Counts: r.state.Counts, Done: r.state.Input.Offset, Total: r.total})
		now := r.c.Now()
		if now.Sub(synced) >= syncEvery || r.state.Batches-r.files.last.Batches >= syncBatches {
			synced = now
			if err := r.files.sync(r.state); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) writeBatch(b *batch) error {
	var text []byte
	for _, e := range b.entries {
		if e.refused() {
			if err := r.files.reports.add(e.report()); err != nil {
				return err
			}
			r.state.Refused++
		} else {
			text = e.row.Append(text[:0], e.with)
			if err := r.files.write(text); err != nil {
				return err
			}
			r.state.Items += int64(len(e.with))
		}
		for _, it := range e.items {
			r.state.Fields[it.Field]++
		}
	}
	r.state.Batches++
	r.state.Input = b.end
	r.state.Rows = b.end.Row
	return nil
}
