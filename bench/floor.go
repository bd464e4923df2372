package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"
)

// entrySize is about what an audit entry of the vault takes.
const entrySize = 300

// The wire types are the vault's (api/openapi.yaml), written out again so that
// the floor owes nothing to the code it is compared with.
type (
	tokenizeItem struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	tokenizeRequest struct {
		Items []tokenizeItem `json:"items"`
	}
	keyCopies struct {
		Present []string `json:"present"`
		Missing []string `json:"missing"`
	}
	tokenized struct {
		Index  int        `json:"index"`
		Status string     `json:"status"`
		Token  string     `json:"token"`
		Copies *keyCopies `json:"key_copies"`
	}
	tokenizeResponse struct {
		Items []tokenized `json:"items"`
	}
	detokenizeItem struct {
		Token string `json:"token"`
	}
	detokenizeRequest struct {
		Items   []detokenizeItem `json:"items"`
		Purpose string           `json:"purpose"`
	}
	revealed struct {
		Index  int    `json:"index"`
		Status string `json:"status"`
		Type   string `json:"type"`
		Value  string `json:"value"`
		Reveal string `json:"reveal"`
	}
	receipt struct {
		Log     string `json:"log"`
		First   uint64 `json:"first_index"`
		Entries int    `json:"entries"`
	}
	detokenizeResponse struct {
		Items []revealed `json:"items"`
		Audit receipt    `json:"audit"`
	}
)

// floor does what no vault of this kind can leave out, and nothing else: chi,
// JSON in and out, two HKDF and two AES-GCM a field, a synced Pebble write or a
// read, and a group-committed fsync of the audit bytes. No credentials, no
// policies, no validation, no key wrapping.
type floor struct {
	db      *pebble.DB
	audit   *appendFile
	buffers sync.Pool
	copies  keyCopies
}

// serveFloor serves until ctx is done.
func serveFloor(ctx context.Context, addr, dir string) (err error) {
	debug.SetGCPercent(400) // of a small heap: a tenth of the CPU for 40 MB
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	options := &pebble.Options{Cache: cache, MemTableSize: 8 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}}
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(filepath.Join(dir, "db"), options)
	if err != nil {
		return fmt.Errorf("open pebble: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	audit, err := newAppendFile(filepath.Join(dir, "audit"))
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	defer func() { err = errors.Join(err, audit.close()) }()

	f := &floor{
		db: db, audit: audit,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		copies:  keyCopies{Present: []string{"eu-west-1", "us-east-1"}, Missing: []string{}},
	}
	router := chi.NewRouter()
	router.Get("/readyz", func(http.ResponseWriter, *http.Request) {})
	router.Post("/v1/tokenize", f.tokenize)
	router.Post("/v1/detokenize", f.detokenize)
	return serve(ctx, addr, router)
}

func serve(ctx context.Context, addr string, handler http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(listener) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	err = s.Close()
	if served := <-stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (f *floor) tokenize(w http.ResponseWriter, r *http.Request) {
	buffer := f.buffer()
	defer f.buffers.Put(buffer)
	var in tokenizeRequest
	if !read(w, r, buffer, &in) {
		return
	}
	written := f.audit.append(len(in.Items) * entrySize)
	out := tokenizeResponse{Items: make([]tokenized, len(in.Items))}
	batch := f.db.NewBatch()
	for i, item := range in.Items {
		token, row, err := sealField(item.Value)
		if err == nil {
			err = batch.Set([]byte(token), row, nil)
		}
		if err != nil {
			fail(w, err)
			return
		}
		out.Items[i] = tokenized{Index: i, Status: "ok", Token: token, Copies: &f.copies}
	}
	if err := errors.Join(batch.Commit(pebble.Sync), <-written); err != nil {
		fail(w, err)
		return
	}
	answer(w, buffer, &out)
}

func (f *floor) detokenize(w http.ResponseWriter, r *http.Request) {
	buffer := f.buffer()
	defer f.buffers.Put(buffer)
	var in detokenizeRequest
	if !read(w, r, buffer, &in) {
		return
	}
	written := f.audit.append(len(in.Items) * entrySize)
	out := detokenizeResponse{Items: make([]revealed, len(in.Items)), Audit: receipt{Log: "eu-west-1/0123456789abcdef/1", Entries: len(in.Items)}}
	for i, item := range in.Items {
		value, err := f.open(item.Token)
		if err != nil {
			fail(w, err)
			return
		}
		out.Items[i] = revealed{Index: i, Status: "ok", Type: "email", Value: value, Reveal: "plain"}
	}
	if err := <-written; err != nil {
		fail(w, err)
		return
	}
	answer(w, buffer, &out)
}

func (f *floor) open(token string) (string, error) {
	row, closer, err := f.db.Get([]byte(token))
	if err != nil {
		return "", err
	}
	value, err := openField(token, row)
	return value, errors.Join(err, closer.Close())
}

func (f *floor) buffer() *bytes.Buffer {
	b, ok := f.buffers.Get().(*bytes.Buffer)
	if !ok {
		return new(bytes.Buffer)
	}
	b.Reset()
	return b
}

func read(w http.ResponseWriter, r *http.Request, buffer *bytes.Buffer, into any) bool {
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, 8<<20))
	if err == nil {
		err = json.Unmarshal(buffer.Bytes(), into)
	}
	if err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
	}
	return err == nil
}

func answer(w http.ResponseWriter, buffer *bytes.Buffer, from any) {
	buffer.Reset()
	if err := json.MarshalWrite(buffer, from); err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
	_, _ = w.Write(buffer.Bytes()) // a client that left is no fault of the server
}

func fail(w http.ResponseWriter, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// quiet drops Pebble's messages about opening and compacting.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
