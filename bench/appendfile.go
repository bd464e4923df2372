package main

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// appendFile is the floor's audit log: an append-only file whose writers share
// fsyncs. One goroutine writes and syncs all that has gathered while it did
// the last lot.
type appendFile struct {
	file    vfs.File
	wake    chan struct{}
	stopped chan error

	mu      sync.Mutex // guards the rest
	pending int
	waiting []chan error
	closing bool
}

// newAppendFile preallocates, so that a sync seldom has to write metadata.
func newAppendFile(path string) (*appendFile, error) {
	file, err := vfs.Default.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	f := &appendFile{
		file:    vfs.NewSyncingFile(file, vfs.SyncingFileOptions{PreallocateSize: 16 << 20}),
		wake:    make(chan struct{}, 1),
		stopped: make(chan error, 1),
	}
	go func() { f.stopped <- f.run() }()
	return f, nil
}

// append queues n bytes; the channel answers once they are durable.
func (f *appendFile) append(n int) <-chan error {
	done := make(chan error, 1)
	f.mu.Lock()
	f.pending += n
	f.waiting = append(f.waiting, done)
	f.mu.Unlock()
	f.signal()
	return done
}

func (f *appendFile) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *appendFile) run() error {
	var entries []byte
	for range f.wake {
		f.mu.Lock()
		n, waiting, closing := f.pending, f.waiting, f.closing
		f.pending, f.waiting = 0, nil
		f.mu.Unlock()
		if n > len(entries) {
			entries = make([]byte, n)
		}
		_, err := f.file.Write(entries[:n])
		err = errors.Join(err, f.file.SyncData())
		for _, done := range waiting {
			done <- err
		}
		if err != nil || closing {
			return err
		}
	}
	return nil
}

// close waits for what is queued.
func (f *appendFile) close() error {
	f.mu.Lock()
	f.closing = true
	f.mu.Unlock()
	f.signal()
	return errors.Join(<-f.stopped, f.file.Close())
}
