package dynamolocal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Fault is what befalls a call.
type Fault uint8

// The faults.
const (
	None      Fault = iota
	Refused         // the call does not reach the server
	Lost            // the server does it; the answer does not come back
	Throttled       // the server says that it has no capacity
	Broken          // the server says 500 and does nothing
	Hanging         // no answer until the caller gives up; the server does nothing
	PutOff          // the server leaves all of a BatchWriteItem unprocessed
)

// Faults counts a client's calls and lets faults befall them: a transport for
// dynamo.Config.
type Faults struct {
	mu    sync.Mutex // guards what follows
	calls map[string]int
	next  func(op string) Fault

	base http.Transport
}

// NewFaults makes a transport without faults.
func NewFaults() *Faults {
	return &Faults{calls: map[string]int{}, base: http.Transport{MaxIdleConnsPerHost: 64}}
}

// On decides the fault of every later call by its operation, such as PutItem;
// nil ends them. It is called for one call at a time.
func (f *Faults) On(fault func(op string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = fault
}

// Once lets a fault befall the next call of an operation.
func (f *Faults) Once(op string, fault Fault) {
	left := 1
	f.On(func(of string) Fault {
		if of != op || left == 0 {
			return None
		}
		left--
		return fault
	})
}

// Calls gives the number of calls by operation since the last time, faulty ones too.
func (f *Faults) Calls() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = map[string]int{}
	return calls
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (f *Faults) CloseIdleConnections() { f.base.CloseIdleConnections() }

func (f *Faults) fault(op string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	if f.next == nil {
		return None
	}
	return f.next(op)
}

var errNoAnswer = errors.New("injected: no answer")

// RoundTrip implements http.RoundTripper.
func (f *Faults) RoundTrip(req *http.Request) (*http.Response, error) {
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	switch f.fault(op) {
	case Refused:
		return nil, errNoAnswer
	case Lost:
		res, err := f.base.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			err = errors.Join(err, res.Body.Close(), errNoAnswer)
		}
		return nil, err
	case Throttled:
		return answer(req, http.StatusBadRequest, "ProvisionedThroughputExceededException"), nil
	case Broken:
		return answer(req, http.StatusInternalServerError, "InternalServerError"), nil
	case Hanging:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case PutOff:
		return putOff(req)
	case None:
	}
	return f.base.RoundTrip(req)
}

// putOff answers a BatchWriteItem with all that it asked for.
func putOff(req *http.Request) (*http.Response, error) {
	var batch struct{ RequestItems json.RawMessage }
	err := json.NewDecoder(req.Body).Decode(&batch)
	if err = errors.Join(err, req.Body.Close()); err != nil {
		return nil, err
	}
	return response(req, http.StatusOK, `{"UnprocessedItems":`+string(batch.RequestItems)+`}`), nil
}

func answer(req *http.Request, status int, code string) *http.Response {
	return response(req, status, `{"__type":"com.amazonaws.dynamodb.v20120810#`+code+`","message":"injected"}`)
}

func response(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader([]byte(body))),
	}
}
