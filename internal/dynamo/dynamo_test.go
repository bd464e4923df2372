package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/dynamo"
)

// answer is what a call meets: a status and a body, or a fault.
type answer struct {
	status int
	body   string
	fault  func(context.Context) error
}

// scripted answers calls in turn; the last answer stays.
type scripted struct {
	answers []answer
	calls   atomic.Int32
	bodies  []string
}

func (s *scripted) RoundTrip(req *http.Request) (*http.Response, error) {
	n := int(s.calls.Add(1))
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	s.bodies = append(s.bodies, string(body))
	a := s.answers[min(n, len(s.answers))-1]
	if a.fault != nil {
		return nil, a.fault(req.Context())
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: int64(len(a.body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}

func says(status int, body string) answer { return answer{status: status, body: body} }

func fails(status int, code string) answer {
	return says(status, `{"__type":"com.amazonaws.dynamodb.v20120810#`+code+`","message":"do not repeat: a-secret"}`)
}

var (
	breaks = answer{fault: func(context.Context) error { return errors.New("network: a-secret") }}
	hangs  = answer{fault: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	ok     = says(http.StatusOK, "{}")
)

func put(t *testing.T, answers ...answer) (again bool, calls int, err error) {
	t.Helper()
	s := &scripted{answers: answers}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, again, err = client(t, s).PutNew(ctx, "records", row())
	return again, int(s.calls.Load()), err
}

// Faults that pass are tried again, and the client remembers whether one of
// them may have been a success; the rest is told at once.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		class  error // nil: another attempt helps
		again  bool
	}{
		"capacity":       {answer: fails(400, "ProvisionedThroughputExceededException")},
		"rate":           {answer: fails(400, "ThrottlingException")},
		"limit":          {answer: fails(400, "RequestLimitExceeded")},
		"transaction":    {answer: fails(400, "TransactionConflictException")},
		"500":            {answer: fails(500, "InternalServerError"), again: true},
		"503":            {answer: says(503, "<html>"), again: true},
		"network":        {answer: breaks, again: true},
		"hanging":        {answer: hangs, again: true},
		"denied":         {answer: fails(400, "AccessDeniedException"), class: dynamo.ErrDenied},
		"expired":        {answer: fails(400, "ExpiredTokenException"), class: dynamo.ErrDenied},
		"clock":          {answer: fails(400, "InvalidSignatureException"), class: dynamo.ErrDenied},
		"no table":       {answer: fails(400, "ResourceNotFoundException"), class: dynamo.ErrNoTable},
		"invalid":        {answer: fails(400, "ValidationException"), class: dynamo.ErrInvalid},
		"unheard of":     {answer: fails(400, "Unheard\u00a0of"), class: dynamo.ErrInvalid},
		"condition":      {answer: fails(400, "ConditionalCheckFailedException"), class: dynamo.ErrCondition},
		"not an answer":  {answer: says(400, "a-secret"), again: true}, // a proxy's, who knows
		"a redirection":  {answer: says(307, ""), class: dynamo.ErrInvalid},
		"not JSON, 200":  {answer: says(200, "a-secret"), again: true},
		"bad connection": {answer: breaks, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				again, calls, err := put(t, c.answer, ok)
				if c.class == nil && (err != nil || calls != 2 || again != c.again) {
					t.Errorf("%d calls, again %v, %v", calls, again, err)
				}
				if c.class != nil && (!errors.Is(err, c.class) || calls != 1) {
					t.Errorf("%d calls, %v", calls, err)
				}
				_, calls, err = put(t, c.answer)
				if err == nil || strings.Contains(err.Error(), "secret") || calls > 10 {
					t.Errorf("for ever: %d calls, %v", calls, err)
				}
			})
		})
	}
}

// Attempts end with the caller's deadline, which the error tells.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, calls, err := put(t, hangs)
		if took := time.Since(begun); took != 5*time.Second || calls != 5 {
			t.Errorf("%d calls, %v", calls, took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, dynamo.ErrTransient) {
			t.Error(err)
		}
	})
}

func TestNoCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("a-secret")
		})
		c, err := dynamo.New(dynamo.Config{Region: "eu-west-1", Credentials: none, Transport: &scripted{}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Get(t.Context(), "records", dynamo.Key{PK: "a", SK: "b"}); !errors.Is(err, dynamo.ErrDenied) || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}

// A cancelled transaction is a condition that failed, or to be tried again.
func TestTransactionReasons(t *testing.T) {
	reasons := func(codes ...string) answer {
		var list []string
		for _, c := range codes {
			list = append(list, `{"Code":"`+c+`"}`)
		}
		return says(400, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","CancellationReasons":[`+strings.Join(list, ",")+`]}`)
	}
	for name, c := range map[string]struct {
		answer answer
		want   error
	}{
		"condition":              {reasons("ConditionalCheckFailed", "None"), dynamo.ErrCondition},
		"condition and conflict": {reasons("TransactionConflict", "ConditionalCheckFailed"), dynamo.ErrCondition},
		"conflict":               {reasons("None", "TransactionConflict"), nil},
		"capacity":               {reasons("ThrottlingError", "None"), nil},
		"invalid":                {reasons("ValidationError", "None"), dynamo.ErrInvalid},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &scripted{answers: []answer{c.answer, ok}}
			err := client(t, s).PutWhere(t.Context(), "records", row(), dynamo.Condition{Expression: "a = b"}, dynamo.Key{PK: "a", SK: "b"}, "token")
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s: %v", name, err)
			}
			for _, body := range s.bodies {
				if !strings.Contains(body, `"ClientRequestToken":"token"`) {
					t.Errorf("%s: attempt without the token: %s", name, body)
				}
			}
		})
	}
}

// What a batch leaves unprocessed is asked for again, and nothing else is; what
// stays unprocessed is an error.
func TestUnprocessed(t *testing.T) {
	const left = `{"Responses":{"t":[{"pk":{"S":"a"},"sk":{"S":"1"}}]},"UnprocessedKeys":{"t":{"ConsistentRead":true,"Keys":[{"pk":{"S":"b"},"sk":{"S":"2"}}]}}}`
	const rest = `{"Responses":{"t":[{"pk":{"S":"b"},"sk":{"S":"2"}}]},"UnprocessedKeys":{}}`
	keys := []dynamo.Key{{PK: "a", SK: "1"}, {PK: "b", SK: "2"}}
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answers: []answer{says(200, left), says(200, rest)}}
		var got []string
		err := client(t, s).BatchGet(t.Context(), "t", keys, "", func(i dynamo.Item) error {
			got = append(got, dynamo.Read(i).String("pk"))
			return nil
		})
		if err != nil || !slices.Equal(got, []string{"a", "b"}) || strings.Contains(s.bodies[1], `"a"`) {
			t.Errorf("%v %v %v", got, err, s.bodies)
		}
		stuck := strings.Replace(left, `{"pk":{"S":"a"},"sk":{"S":"1"}}`, "", 1)
		s = &scripted{answers: []answer{says(200, stuck)}}
		if err = client(t, s).BatchGet(t.Context(), "t", keys, "", func(dynamo.Item) error { return nil }); !errors.Is(err, dynamo.ErrThrottled) {
			t.Errorf("keys that stay unprocessed: %v", err)
		}
		const unwritten = `{"UnprocessedItems":{"t":[{"DeleteRequest":{"Key":{"pk":{"S":"b"},"sk":{"S":"2"}}}}]}}`
		s = &scripted{answers: []answer{says(200, unwritten), ok}}
		writes := []dynamo.Write{{Delete: keys[0]}, {Delete: keys[1]}}
		if err = client(t, s).BatchWrite(t.Context(), "t", writes); err != nil || s.calls.Load() != 2 || strings.Contains(s.bodies[1], `"a"`) {
			t.Errorf("%v %v", err, s.bodies)
		}
		s = &scripted{answers: []answer{says(200, unwritten)}}
		if err = client(t, s).BatchWrite(t.Context(), "t", writes); !errors.Is(err, dynamo.ErrThrottled) {
			t.Errorf("items that stay unprocessed: %v", err)
		}
	})
}

// A callback's error is passed on as it is, and ends the call.
func TestCallbackError(t *testing.T) {
	mine := errors.New("mine")
	s := &scripted{answers: []answer{says(200, found)}}
	err := client(t, s).BatchGet(t.Context(), "records", []dynamo.Key{{PK: "a", SK: "b"}}, "", func(dynamo.Item) error { return mine })
	if err != mine || s.calls.Load() != 1 { //nolint:errorlint // as it is
		t.Errorf("%v after %d calls", err, s.calls.Load())
	}
}

// Each never runs more than Parallel at once, runs all, and stops at an error.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, ran atomic.Int32
		run := func(_ context.Context, _ int) error {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second)
			running.Add(-1)
			ran.Add(1)
			return nil
		}
		if err := dynamo.Each(t.Context(), 100, run); err != nil || ran.Load() != 100 || most.Load() != dynamo.Parallel {
			t.Errorf("%d ran, %d at once, %v", ran.Load(), most.Load(), err)
		}
		ran.Store(0)
		err := dynamo.Each(t.Context(), 1000, func(ctx context.Context, i int) error {
			ran.Add(1)
			if i == 3 {
				return fmt.Errorf("at %d", i)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err == nil || err.Error() != "at 3" || ran.Load() > dynamo.Parallel {
			t.Errorf("%v after %d", err, ran.Load())
		}
	})
}

func TestFields(t *testing.T) {
	item := dynamo.Item{"s": dynamo.String("x"), "empty": dynamo.String(""), "n": dynamo.Int(-5), "u": dynamo.Uint(5), "b": dynamo.Bytes(nil), "loose": &types.AttributeValueMemberN{Value: "05"}}
	for name, c := range map[string]struct {
		read func(*dynamo.Fields)
		bad  bool
	}{
		"string":         {func(f *dynamo.Fields) { f.String("s") }, false},
		"absent string":  {func(f *dynamo.Fields) { f.String("?") }, true},
		"number as text": {func(f *dynamo.Fields) { f.String("n") }, true},
		"optional":       {func(f *dynamo.Fields) { f.Optional("?") }, false},
		"empty optional": {func(f *dynamo.Fields) { f.Optional("empty") }, true},
		"int":            {func(f *dynamo.Fields) { f.Int("n") }, false},
		"loose int":      {func(f *dynamo.Fields) { f.Int("loose") }, true},
		"text as int":    {func(f *dynamo.Fields) { f.Int("s") }, true},
		"uint":           {func(f *dynamo.Fields) { f.Uint("u") }, false},
		"negative uint":  {func(f *dynamo.Fields) { f.Uint("n") }, true},
		"loose uint":     {func(f *dynamo.Fields) { f.Uint("loose") }, true},
		"bytes":          {func(f *dynamo.Fields) { f.Bytes("b") }, false},
		"absent bytes":   {func(f *dynamo.Fields) { f.Bytes("?") }, true},
	} {
		f := dynamo.Read(item)
		c.read(f)
		if err := f.Err(); (err != nil) != c.bad || c.bad && !errors.Is(err, dynamo.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfig(t *testing.T) {
	good := dynamo.Config{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(static)}
	for name, change := range map[string]func(*dynamo.Config){
		"no region":      func(c *dynamo.Config) { c.Region = "" },
		"no credentials": func(c *dynamo.Config) { c.Credentials = nil },
		"no server":      func(c *dynamo.Config) { c.Endpoint = "eu-west-1" },
		"a password":     func(c *dynamo.Config) { c.Endpoint = "http://u:p@localhost" },
		"negative":       func(c *dynamo.Config) { c.MaxConns = -1 },
	} {
		c := good
		change(&c)
		if _, err := dynamo.New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
