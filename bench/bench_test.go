package main

import (
	"bufio"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the floor's process, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "floor" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The whole harness, with the floor in the vault's place.
func TestFloorBesideItself(t *testing.T) {
	if _, err := os.Stat("/proc/self/clear_refs"); err != nil {
		t.Log("no /proc here: the harness measures on Linux only")
		return
	}
	out := new(strings.Builder)
	c := config{dir: t.TempDir(), vaultArgs: "floor", connections: "2", rounds: 1, turn: 50 * time.Millisecond, tokens: batchSize}
	if err := bench(t.Context(), c, out, out); err != nil {
		t.Fatal(err)
	}
	for _, l := range loads() {
		if !strings.Contains(out.String(), "\n"+l.name+" ") {
			t.Errorf("no row for %s in\n%s", l.name, out)
		}
	}
}

func TestFieldComesBack(t *testing.T) {
	token, row, err := sealField("somebody@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if value, err := openField(token, row); err != nil || value != "somebody@example.com" {
		t.Errorf("got %q, %v", value, err)
	}
	row[len(row)-1] ^= 1
	if _, err := openField(token, row); err == nil {
		t.Error("a changed row opened")
	}
	row[len(row)-1] ^= 1
	if _, err := openField(token+"x", row); err == nil {
		t.Error("a row opened under another token")
	}
}

func TestClientReadsBothFramings(t *testing.T) {
	cases := map[string]struct{ answer, want string }{
		"length":  {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhello", "hello"},
		"chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"},
		"empty":   {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		"refused": {"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", "error: /x answered 503: no"},
		"garbage": {"SSH-2.0-x\r\n\r\n", "error: " + errAnswer.Error()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer func() { _, _ = ours.Close(), theirs.Close() }()
			go func() {
				_, _ = theirs.Read(make([]byte, 4096))
				_, _ = theirs.Write([]byte(c.answer))
			}()
			got, err := (&client{conn: ours, in: bufio.NewReader(ours)}).post("/x", nil)
			answer := string(got)
			if err != nil {
				answer = "error: " + err.Error()
			}
			if answer != c.want {
				t.Errorf("got %q, want %q", answer, c.want)
			}
		})
	}
}

func TestAppendFileAnswersEveryWriter(t *testing.T) {
	path := t.TempDir() + "/audit"
	f, err := newAppendFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var written []<-chan error
	for range 100 {
		written = append(written, f.append(entrySize))
	}
	for _, done := range written {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 100*entrySize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestStatistics(t *testing.T) {
	if m := median([]float64{9, 1, 5, 2}); m != 3.5 {
		t.Errorf("median: %v", m)
	}
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i))
	}
	if p50, p99 := quantile(d, 0.50), quantile(d, 0.99); p50 != 51 || p99 != 100 {
		t.Errorf("p50 %d, p99 %d", p50, p99)
	}
	if got, err := parseCounts("64,1"); err != nil || !slices.Equal(got, []int{1, 64}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseCounts("0"); err == nil {
		t.Error("no connections were accepted")
	}
}

func TestBatchAsksForDistinctTokens(t *testing.T) {
	s := &server{}
	for i := range 2 * batchSize {
		s.tokens = append(s.tokens, string(rune('A'+i)))
	}
	body := string(detokenizeBody(nil, rand.New(rand.NewPCG(1, 1)), s, batchSize))
	for _, token := range s.tokens {
		if strings.Count(body, `"`+token+`"`) > 1 {
			t.Errorf("%q is asked for twice", token)
		}
	}
}
