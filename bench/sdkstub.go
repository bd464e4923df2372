package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// stub stands for DynamoDB and KMS in this process: it answers every call at
// once with bytes made beforehand, so that what is measured is the caller's
// CPU alone. While keep is on it counts calls and keeps what is put.
type stub struct {
	region string // of its KMS
	keep   atomic.Bool

	mu    sync.Mutex // guards what follows
	calls map[string]int
	items map[string][]json.RawMessage // by table, as they were put

	stored []json.RawMessage // what BatchGetItem finds
	reads  sync.Map          // its answers, by the first and the last key
}

func newStub(region string) *stub {
	return &stub{region: region, calls: map[string]int{}, items: map[string][]json.RawMessage{}}
}

func (s *stub) arn() string {
	return "arn:aws:kms:" + s.region + ":111122223333:key/11111111-1111-1111-1111-111111111111"
}

// wrapped has the length of a data key that AWS wrapped.
func wrapped() string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 184)) }

// plain is every data key.
func plain() string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) }

// RoundTrip implements http.RoundTripper.
func (s *stub) RoundTrip(req *http.Request) (*http.Response, error) {
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	var text []byte
	var err error
	if keep := s.keep.Load(); keep || op == "BatchGetItem" {
		if text, err = io.ReadAll(req.Body); err == nil && keep {
			err = s.remember(op, text)
		}
	} else {
		_, err = io.Copy(io.Discard, req.Body)
	}
	if err = errors.Join(err, req.Body.Close()); err != nil {
		return nil, err
	}
	body := s.answer(op, text)
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}, nil
}

func (s *stub) answer(op string, request []byte) []byte {
	switch op {
	case "BatchGetItem":
		if len(s.stored) > 0 {
			return s.read(request)
		}
	case "Query", "Scan":
		return []byte(`{"Items":[],"Count":0}`)
	case "GenerateDataKey":
		return fmt.Appendf(nil, `{"KeyId":%q,"Plaintext":%q,"CiphertextBlob":%q}`, s.arn(), plain(), wrapped())
	case "Encrypt":
		return fmt.Appendf(nil, `{"KeyId":%q,"CiphertextBlob":%q}`, s.arn(), wrapped())
	case "Decrypt":
		return fmt.Appendf(nil, `{"KeyId":%q,"Plaintext":%q}`, s.arn(), plain())
	}
	return []byte("{}")
}

// remember counts a call, and keeps what is put. The audit index is written
// and read behind the requests, and not counted with them.
func (s *stub) remember(op string, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == "Query" || bytes.Contains(text, []byte(`"`+indexTable+`"`)) {
		return nil
	}
	s.calls[op]++
	if op != "PutItem" && op != "BatchWriteItem" {
		return nil
	}
	var put struct {
		TableName    string
		Item         json.RawMessage
		RequestItems map[string][]struct {
			PutRequest struct{ Item json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &put); err != nil {
		return fmt.Errorf("read a put: %w", err)
	}
	if put.TableName != "" {
		s.items[put.TableName] = append(s.items[put.TableName], put.Item)
	}
	for table, writes := range put.RequestItems {
		for _, w := range writes {
			s.items[table] = append(s.items[table], w.PutRequest.Item)
		}
	}
	return nil
}

// partitionKey is what stands before one in a call's JSON.
const partitionKey = `"pk":{"S":"`

// read answers a BatchGetItem with those of the stored items that it asks for.
func (s *stub) read(request []byte) []byte {
	key := func(at int) []byte {
		text, _, _ := bytes.Cut(request[at+len(partitionKey):], []byte(`"`))
		return text
	}
	chunk := string(key(bytes.Index(request, []byte(partitionKey)))) + string(key(bytes.LastIndex(request, []byte(partitionKey))))
	if kept, ok := s.reads.Load(chunk); ok {
		if answer, ok := kept.([]byte); ok {
			return answer
		}
	}
	found := []json.RawMessage{}
	for _, item := range s.stored {
		_, text, _ := bytes.Cut(item, []byte(partitionKey))
		text, _, _ = bytes.Cut(text, []byte(`"`))
		if bytes.Contains(request, text) {
			found = append(found, item)
		}
	}
	answer, err := json.Marshal(map[string]any{"Responses": map[string]any{recordsTable: found}, "UnprocessedKeys": map[string]any{}})
	if err != nil {
		return []byte(`{"Responses":{}}`)
	}
	s.reads.Store(chunk, answer)
	return answer
}

// taken gives the items put into a table since the last time.
func (s *stub) taken(table string) []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := s.items[table]
	delete(s.items, table)
	return items
}

// counted gives the calls since the last time.
func (s *stub) counted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = map[string]int{}
	return calls
}
