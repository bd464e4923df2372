package bulk_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/fakevault"
	"piivault/cmd/vault/internal/rows"
)

func TestRunReplacesFieldsInOrder(t *testing.T) {
	w := newWorld(t, people(40))
	result, err := bulk.Run(t.Context(), w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.checkOut(t)
	if result.Rows != 40 || result.Refused != 6 || result.Items != 68 || result.Fields[0] != 40 || !result.Resumable || result.Resumed != 0 {
		t.Errorf("result %+v", result)
	}
	want := `{"row":4,"line":4,"fields":[{"field":"email","code":"invalid_email"}]}` + "\n"
	if got := read(t, w.path("refused")); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 6 || strings.Contains(got, "example") {
		t.Errorf("refused rows:\n%s", got)
	}
	for _, name := range []string{"out", "refused"} {
		if info, err := os.Stat(w.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, error %v", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(w.path("out.journal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal of a finished run: %v", err)
	}
	if _, err := bulk.Run(t.Context(), w.config()); !errors.Is(err, bulk.ErrExists) {
		t.Errorf("a second run: %v", err)
	}
}

func TestRowsThatCannotBeSentAreReported(t *testing.T) {
	w := newWorld(t, "{\"email\":1,\"phone\":\"2\"}\n\n{\"email\":\n{\"email\":\"a\",\"email\":\"b\"}\n{\"email\":null,\"x\":\"\xc3\xa9\"}\n")
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, w.path("out")); got != "\n{\"email\":null,\"x\":\"é\"}\n" {
		t.Errorf("output %q", got)
	}
	want := `{"row":1,"line":1,"fields":[{"field":"email","code":"not_a_string"}]}
{"row":2,"line":3,"code":"malformed_row"}
{"row":3,"line":4,"code":"duplicate_key"}
`
	if got := read(t, w.path("refused")); got != want {
		t.Errorf("refused rows:\n%s", got)
	}
	if n := w.vault.Requests("/v1/tokenize"); n != 0 {
		t.Errorf("%d requests for nothing", n)
	}
}

func TestWithoutOutputItWritesToStdout(t *testing.T) {
	w := newWorld(t, "")
	c := w.config()
	var out, refused bytes.Buffer
	c.Input, c.Output, c.Refused = "-", "", ""
	c.Stdin, c.Stdout, c.RefusedTo = strings.NewReader(people(4)), &out, &refused
	result, err := bulk.Run(t.Context(), c)
	if err != nil || result.Resumable || strings.Count(out.String(), "\n") != 3 || strings.Count(refused.String(), "\n") != 1 {
		t.Errorf("%+v, %v\n%s\n%s", result, err, out.String(), refused.String())
	}
}

// What the vault did and could not say is asked for again under the same key.
func TestLostAnswersMakeNoSecondTokens(t *testing.T) {
	w := newWorld(t, people(40))
	w.vault.Before = func(_ string, n int) *fakevault.Fault {
		if n%5 == 0 {
			return &fakevault.Fault{Status: http.StatusServiceUnavailable, Code: "overloaded", RetryAfter: "1"}
		}
		return nil
	}
	w.vault.After = func(_ string, n int) *fakevault.Fault {
		switch n % 4 {
		case 1:
			return &fakevault.Fault{} // the connection breaks
		case 2:
			return &fakevault.Fault{Status: http.StatusServiceUnavailable, Code: "unavailable"}
		}
		return nil
	}
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	w.checkOut(t)
}

func TestABatchThatIsTooLargeIsSplit(t *testing.T) {
	w := newWorld(t, people(40))
	w.vault.Limit = 3
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	w.checkOut(t)

	w = newWorld(t, people(1))
	w.vault.Limit = 1
	if _, err := bulk.Run(t.Context(), w.config()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, w.path("refused")); got != `{"row":1,"line":1,"code":"batch_too_large"}`+"\n" {
		t.Errorf("refused rows:\n%s", got)
	}
}

func TestBatchesStayWithinTheirLimits(t *testing.T) {
	w := newWorld(t, people(10))
	c := w.config()
	sizes := make(chan int, 100)
	c.Exchange = func(_ context.Context, _ string, items []bulk.Item) ([]string, error) {
		n, tokens := 0, make([]string, len(items))
		for i, it := range items {
			n += len(it.Value)
			tokens[i] = "t"
		}
		sizes <- n
		return tokens, nil
	}
	c.MaxItems, c.MaxBytes = 500, 100
	if _, err := bulk.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	close(sizes)
	batches := 0
	for n := range sizes {
		batches++
		if n > c.MaxBytes {
			t.Errorf("a batch of %d bytes", n)
		}
	}
	if batches < 3 {
		t.Errorf("%d batches", batches)
	}
}

func TestFaultsEndTheRunAndItCanBeResumed(t *testing.T) {
	for name, fault := range map[string]fakevault.Fault{
		"forbidden":       {Status: http.StatusForbidden, Code: "forbidden"},
		"no items":        {Status: http.StatusUnprocessableEntity, Code: "invalid_on_error"},
		"unknown item":    {Status: http.StatusUnprocessableEntity, Code: "x", Items: []client.ProblemItem{{Index: 99, Code: "x"}}},
		"waits too long":  {Status: http.StatusTooManyRequests, Code: "over_budget", RetryAfter: "3600"},
		"items, for now":  {Status: http.StatusServiceUnavailable, Code: "x", Items: []client.ProblemItem{{Code: "kms_unavailable"}}},
		"never available": {Status: http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, people(40))
			broken := true
			w.vault.Before = func(_ string, n int) *fakevault.Fault {
				if broken && n > 9 {
					return &fault
				}
				return nil
			}
			result, err := bulk.Run(t.Context(), w.config())
			if err == nil || !result.Resumable || result.Rows == 0 || result.Rows == 40 {
				t.Fatalf("%+v, %v", result, err)
			}
			broken = false
			again, err := bulk.Run(t.Context(), w.config())
			if err != nil || again.Resumed != result.Rows {
				t.Fatalf("%+v, %v", again, err)
			}
			w.checkOut(t)
		})
	}
}

func TestTokensThatAreNotYetVisibleAreLeftOut(t *testing.T) {
	w := newWorld(t, people(4))
	w.vault.Before = func(_ string, n int) *fakevault.Fault {
		if n > 20 {
			return nil
		}
		return &fakevault.Fault{Status: http.StatusServiceUnavailable, Code: "not_yet_visible", Items: []client.ProblemItem{{Index: 0, Code: "not_yet_visible"}}}
	}
	c := w.config()
	c.Parallel = 1
	result, err := bulk.Run(t.Context(), c)
	if err != nil || result.Refused == 0 || !strings.Contains(read(t, w.path("refused")), "not_yet_visible") {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestInterruptedRunsWriteWhatTheyExchanged(t *testing.T) {
	w := newWorld(t, people(60))
	for runs := 1; ; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		steps := 0
		w.step = func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if steps++; steps == 25 {
				cancel()
			}
		}
		result, err := bulk.Run(ctx, w.config())
		cancel()
		if err == nil {
			if runs < 3 {
				t.Errorf("only %d runs: nothing was interrupted", runs)
			}
			break
		}
		if !errors.Is(err, bulk.ErrInterrupted) || runs > 50 {
			t.Fatalf("run %d: %+v, %v", runs, result, err)
		}
	}
	w.checkOut(t)
}

func TestAnAnswerThatDoesNotFitIsAnError(t *testing.T) {
	for name, tokens := range map[string][]string{"too few": {"a"}, "an empty one": {"a", "", "c", "d"}} {
		w := newWorld(t, people(2))
		c := w.config()
		c.Exchange = func(context.Context, string, []bulk.Item) ([]string, error) { return tokens, nil }
		if _, err := bulk.Run(t.Context(), c); err == nil {
			t.Error(name)
		}
	}
}

func TestInputsThatCannotBeRead(t *testing.T) {
	w := newWorld(t, "a,b\n1,\"2\n")
	c := w.config()
	c.Format, c.Fields = rows.CSV, []string{"a", "b"}
	if _, err := bulk.Run(t.Context(), c); !errors.Is(err, rows.ErrUnclosedQuote) {
		t.Errorf("an unclosed quote: %v", err)
	}
	c.Output, c.Refused = w.path("out2"), w.path("refused2")
	for _, input := range []string{w.dir, w.path("none")} {
		c.Input = input
		if _, err := bulk.Run(t.Context(), c); err == nil {
			t.Errorf("%s was read", input)
		}
	}
	c.Input, c.Fields = w.input, []string{"c"}
	var column *rows.ColumnError
	if _, err := bulk.Run(t.Context(), c); !errors.As(err, &column) {
		t.Errorf("a column that is not there: %v", err)
	}
	if _, err := os.Stat(c.Output); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that did not begin left an output: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestAWriteErrorEndsTheRun(t *testing.T) {
	w := newWorld(t, people(4))
	c := w.config()
	c.Output, c.Refused, c.Stdout = "", "", brokenWriter{}
	if _, err := bulk.Run(t.Context(), c); !errors.Is(err, os.ErrClosed) {
		t.Errorf("standard output is gone: %v", err)
	}
	c.Stdout, c.RefusedTo = new(bytes.Buffer), brokenWriter{}
	if _, err := bulk.Run(t.Context(), c); !errors.Is(err, os.ErrClosed) {
		t.Errorf("standard error is gone: %v", err)
	}
}
