// Package dynamolocal runs Amazon's DynamoDB Local for tests: fetched once by
// Maven, checked against committed checksums, in memory, on loopback, and gone
// with the process that started it, however that ends.
package dynamolocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"piivault/internal/dynamo"
)

// startTimeout bounds a start on a busy machine.
const startTimeout = time.Minute

// Server is a running DynamoDB Local.
type Server struct {
	Endpoint string

	cmd   *exec.Cmd
	stdin io.Closer // the server ends when it is closed
	done  chan error

	mu       sync.Mutex // guards accounts
	accounts int
}

// Main runs a package's tests with a server of their own and gives the exit
// code: TestMain's body is os.Exit(dynamolocal.Main(m, &server)).
func Main(m *testing.M, server **Server) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s, err := Start(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dynamolocal:", err)
		return 1
	}
	*server = s
	code := m.Run()
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "dynamolocal:", err)
		return 1
	}
	return code
}

// Start fetches the jars where they are missing and starts a server on a free
// loopback port.
func Start(ctx context.Context) (*Server, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	lib, err := fetch(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("fetch DynamoDB Local: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{Endpoint: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), done: make(chan error, 1)}
	if err := s.run(lib, port); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// watch runs a command, which never reads, until its standard input ends: so
// a server does not outlive the tests, not even tests that were killed.
const watch = `"$@" </dev/null & pid=$!; cat >/dev/null; kill "$pid"; wait "$pid"; exit 0`

func (s *Server) run(lib string, port int) error {
	s.cmd = exec.Command("sh", "-c", watch, "dynamodb-local", "java", //nolint:gosec,noctx // fixed words and a port; ends with its input
		"-Xmx3g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true",
		"-Dsqlite4java.library.path="+lib, "-cp", filepath.Join(lib, "*"),
		"software.amazon.dynamodb.services.local.main.ServerRunner",
		"-inMemory", "-disableTelemetry", "-port", strconv.Itoa(port))
	s.cmd.Dir = lib
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	s.stdin = stdin
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start DynamoDB Local: %w", err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	return nil
}

// ready waits for the first answer.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, http.NoBody)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			return res.Body.Close() // any answer: it is up
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("DynamoDB Local did not start: %w", ctx.Err())
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("DynamoDB Local ended: %v", err) //nolint:errorlint // an exit status, or nil
		case <-ticker.C:
		}
	}
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	http.DefaultClient.CloseIdleConnections()
	return errors.Join(s.stdin.Close(), <-s.done)
}

// Account is credentials whose tables no one else sees; a region has its own.
type Account struct {
	server *Server
	key    string
}

// Account makes a new one.
func (s *Server) Account() Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts++
	return Account{s, fmt.Sprintf("account%d", s.accounts)} // letters and digits only
}

// Config is a client's of the account in a region.
func (a Account) Config(region string) dynamo.Config {
	return dynamo.Config{
		Region: region, Endpoint: a.server.Endpoint,
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(a.key, "secret", "")),
	}
}

// Client makes a client of the account in a region, closed with the test.
func (a Account) Client(tb testing.TB, region string) *dynamo.Client {
	tb.Helper()
	return NewClient(tb, a.Config(region))
}

// NewClient makes a client that is closed with the test.
func NewClient(tb testing.TB, cfg dynamo.Config) *dynamo.Client {
	tb.Helper()
	c, err := dynamo.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.Join(errors.New("no TCP address"), l.Close())
	}
	return addr.Port, l.Close()
}

// cacheDir is .cache/dynamodb-local in the module's directory.
func cacheDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".cache", "dynamodb-local"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the module")
		}
		dir = parent
	}
}
