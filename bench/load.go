package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	batchSize  = 100
	maxAnswers = 200_000 // a connection's requests in a turn
	warmUp     = 200 * time.Millisecond
)

// load is a kind of request.
type load struct {
	name, path string
	body       func(dst []byte, random *rand.Rand, s *server) []byte
}

func loads() []load {
	return []load{
		{"tokenize", "/v1/tokenize", func(dst []byte, random *rand.Rand, _ *server) []byte { return tokenizeBody(dst, random, 1) }},
		{"detokenize", "/v1/detokenize", func(dst []byte, random *rand.Rand, s *server) []byte { return detokenizeBody(dst, random, s, 1) }},
		{"tokenize×100", "/v1/tokenize", func(dst []byte, random *rand.Rand, _ *server) []byte { return tokenizeBody(dst, random, batchSize) }},
		{"detokenize×100", "/v1/detokenize", func(dst []byte, random *rand.Rand, s *server) []byte {
			return detokenizeBody(dst, random, s, batchSize)
		}},
	}
}

func tokenizeBody(dst []byte, random *rand.Rand, n int) []byte {
	dst = append(dst, `{"items":[`...)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = fmt.Appendf(dst, `{"type":"email","value":"user-%016x@example.com"}`, random.Uint64())
	}
	return append(dst, "]}"...)
}

func detokenizeBody(dst []byte, random *rand.Rand, s *server, n int) []byte {
	dst = append(dst, `{"items":[`...)
	first := random.IntN(len(s.tokens))
	for i := range n { // distinct tokens, far apart
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"token":"`...)
		dst = append(dst, s.tokens[(first+i*97)%len(s.tokens)]...)
		dst = append(dst, `"}`...)
	}
	return append(dst, `],"purpose":"bench"}`...)
}

// seed makes the tokens that detokenize will ask for, and checks once that the
// server gives back what it was given.
func seed(ctx context.Context, s *server, count int) ([]string, error) {
	c, err := dial(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	random := rand.New(rand.NewPCG(1, 0))
	var tokens []string
	for len(tokens) < max(count, 2*batchSize) {
		var out tokenizeResponse
		if err := ask(c, "/v1/tokenize", tokenizeBody(nil, random, batchSize), &out); err != nil {
			return nil, err
		}
		for _, item := range out.Items {
			tokens = append(tokens, item.Token)
		}
	}
	want := fmt.Sprintf("user-%016x@example.com", rand.New(rand.NewPCG(1, 0)).Uint64())
	var out detokenizeResponse
	if err := ask(c, "/v1/detokenize", fmt.Appendf(nil, `{"items":[{"token":%q}],"purpose":"bench"}`, tokens[0]), &out); err != nil {
		return nil, err
	}
	if len(out.Items) != 1 || out.Items[0].Value != want {
		return nil, errors.New("the first token did not give its value back")
	}
	return tokens, nil
}

func ask(c *client, path string, body []byte, out any) error {
	answer, err := c.post(path, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// turn is what one server did in one turn.
type turn struct {
	perSecond float64
	cpu       float64 // seconds for 1,000 requests, work after the turn included
	p50, p99  float64 // milliseconds
}

// takeTurn loads s from all connections for the given time.
func takeTurn(ctx context.Context, s *server, l load, connections int, round uint64, length time.Duration) (turn, error) {
	clients := make([]*client, connections)
	for i := range clients {
		c, err := dial(ctx, s)
		if err != nil {
			return turn{}, err
		}
		defer func() { _ = c.conn.Close() }()
		clients[i] = c
	}
	if _, err := drive(ctx, s, l, clients, round<<1, warmUp); err != nil {
		return turn{}, err
	}
	before, err := s.settle(ctx)
	if err != nil {
		return turn{}, err
	}
	start := time.Now()
	latencies, err := drive(ctx, s, l, clients, round<<1|1, length)
	elapsed := time.Since(start)
	if err != nil {
		return turn{}, err
	}
	after, err := s.settle(ctx)
	if err != nil {
		return turn{}, err
	}
	if len(latencies) == 0 {
		return turn{}, errors.New("no request was answered")
	}
	n := float64(len(latencies))
	return turn{
		perSecond: n / elapsed.Seconds(),
		cpu:       (after - before).Seconds() / n * 1000,
		p50:       quantile(latencies, 0.50).Seconds() * 1000,
		p99:       quantile(latencies, 0.99).Seconds() * 1000,
	}, nil
}

// drive sends requests on every connection, each waiting for its answer, and
// returns their latencies.
func drive(ctx context.Context, s *server, l load, clients []*client, seed uint64, length time.Duration) ([]time.Duration, error) {
	latencies := make([][]time.Duration, len(clients))
	errs := make([]error, len(clients))
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)+uint64(len(clients))<<32))
			var body []byte
			for sent := time.Now(); sent.Before(end) && len(latencies[i]) < maxAnswers && ctx.Err() == nil; {
				body = l.body(body[:0], random, s)
				sent = time.Now()
				if _, errs[i] = c.post(l.path, body); errs[i] != nil {
					return
				}
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for _, l := range latencies {
		all = append(all, l...)
	}
	return all, errors.Join(append(errs, ctx.Err())...)
}
