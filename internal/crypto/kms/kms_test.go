package kms_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"piivault/internal/crypto"
	"piivault/internal/crypto/kms"
	"piivault/internal/crypto/kmstest"
	"piivault/internal/sim/kmsserver"
)

const (
	here  = "eu-west-1"
	there = "us-east-1"
)

// service is a KMS server of two regions on loopback.
type service struct {
	*kmsserver.Server
	url   string
	dials atomic.Int32 // connections it has accepted
}

func newService(tb testing.TB) *service {
	tb.Helper()
	server, err := kmsserver.Open(kmsserver.Config{Dir: tb.TempDir(), Regions: []string{here, there}})
	if err != nil {
		tb.Fatal(err)
	}
	s := &service{Server: server}
	s.url = serve(tb, server, func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.dials.Add(1)
		}
	})
	tb.Cleanup(server.Close) // before the listener's end, which waits for held answers
	return s
}

func serve(tb testing.TB, handler http.Handler, connState func(net.Conn, http.ConnState)) string {
	tb.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = connState
	server.Start()
	tb.Cleanup(server.Close)
	return server.URL
}

// client is the adapter, for a region and a server.
func client(tb testing.TB, region, url string) *kms.KMS {
	tb.Helper()
	k, err := kms.New(kms.Config{Region: region, Endpoint: url, Credentials: static()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Close)
	return k
}

func static() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "example"}, nil
	})
}

func (s *service) key(tb testing.TB, spec kmsserver.KeySpec) string {
	tb.Helper()
	arn, err := s.CreateKey(spec)
	if err != nil {
		tb.Fatal(err)
	}
	return arn
}

func (s *service) replicated(tb testing.TB) (primary, replica string) {
	tb.Helper()
	primary = s.key(tb, kmsserver.KeySpec{Region: here, MultiRegion: true})
	replica, err := s.Replicate(primary, there)
	if err != nil {
		tb.Fatal(err)
	}
	return primary, replica
}

func (s *service) set(tb testing.TB, f kmsserver.Fault) {
	tb.Helper()
	if err := s.SetFault(f); err != nil {
		tb.Fatal(err)
	}
}

// total counts the requests that a region got.
func (s *service) total(region string) (n int) {
	for _, count := range s.Calls(region) {
		n += count
	}
	return n
}

func TestConformance(t *testing.T) {
	kmstest.Run(t, func(t *testing.T) kmstest.Fixture {
		t.Helper()
		s := newService(t)
		primary, replica := s.replicated(t)
		fault := func(m kmsserver.Mode) func() { return func() { s.set(t, kmsserver.Fault{Region: here, Mode: m}) } }
		return kmstest.Fixture{
			KMS: client(t, here, s.url), ReplicaKMS: client(t, there, s.url),
			Key: s.key(t, kmsserver.KeySpec{Region: here}), Other: s.key(t, kmsserver.KeySpec{Region: here}),
			Primary: primary, Replica: replica,
			Disable: func(keyARN string) {
				if err := s.SetEnabled(keyARN, false); err != nil {
					t.Fatal(err)
				}
			},
			Unreachable:   fault(kmsserver.Down),
			Deny:          fault(kmsserver.Deny),
			Slow:          func(d time.Duration) { s.set(t, kmsserver.Fault{Region: here, Mode: kmsserver.Slow, Delay: d}) },
			UnknownKeyARN: kmsserver.ARN(here, "11111111-2222-3333-4444-555555555555"),
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := kms.Config{Region: here, Endpoint: "http://127.0.0.1:1", Credentials: static()}
	for name, change := range map[string]func(*kms.Config){
		"no region":            func(c *kms.Config) { c.Region = "" },
		"no credentials":       func(c *kms.Config) { c.Credentials = nil },
		"a negative bound":     func(c *kms.Config) { c.MaxConns = -1 },
		"no URL":               func(c *kms.Config) { c.Endpoint = "::" },
		"no scheme":            func(c *kms.Config) { c.Endpoint = "127.0.0.1:1" },
		"another scheme":       func(c *kms.Config) { c.Endpoint = "file:///tmp/x" },
		"no host":              func(c *kms.Config) { c.Endpoint = "http://" },
		"a password":           func(c *kms.Config) { c.Endpoint = "http://a:b@127.0.0.1:1" },
		"FIPS elsewhere":       func(c *kms.Config) { c.FIPS = true },
		"FIPS but no region":   func(c *kms.Config) { c.FIPS, c.Endpoint, c.Region = true, "", "" },
		"credentials in a URL": func(c *kms.Config) { c.Endpoint = "https://a@example.com" },
	} {
		c := good
		change(&c)
		if _, err := kms.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, c := range []kms.Config{good, {Region: here, Credentials: static()}, {Region: here, Credentials: static(), FIPS: true}} {
		if _, err := kms.New(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDefaultCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "example")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	provider, err := kms.DefaultCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t)
	k, err := kms.New(kms.Config{Region: here, Endpoint: s.url, Credentials: provider})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Check(t.Context(), s.key(t, kmsserver.KeySpec{Region: here})); err != nil {
		t.Error(err)
	}
}

// Calls at the same time make connections up to the bound; those that follow use them again.
func TestConnectionsAreKept(t *testing.T) {
	const bound, burst = 8, 64
	s := newService(t)
	arn := s.key(t, kmsserver.KeySpec{Region: here})
	k, err := kms.New(kms.Config{Region: here, Endpoint: s.url, Credentials: static(), MaxConns: bound})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for range 3 {
		errs := make(chan error, burst)
		for range burst {
			go func() { errs <- k.Check(t.Context(), arn) }()
		}
		for range burst {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
	// On a machine too busy to run its goroutines for 50 ms, net/http drops one now and then.
	if n := s.dials.Load(); n < 1 || n > 2*bound {
		t.Errorf("%d connections, want about %d", n, bound)
	}
	if n := s.total(here); n != 3*burst {
		t.Errorf("%d requests, want %d", n, 3*burst)
	}
}

// What net/http is to send it can see to be in memory, or it would lose
// connections (internal/awshttp): seldom enough to escape the test above.
func TestBodiesAreInMemory(t *testing.T) {
	arn := kmsserver.ARN(here, "x")
	var bodies []string
	k := kms.Over(kms.Config{Region: here, Endpoint: "http://127.0.0.1:1", Credentials: static()}, transport(func(r *http.Request) (*http.Response, error) {
		if _, again := r.Body.(io.WriterTo); !again || r.GetBody == nil { // as io.NopCloser keeps it of a bytes.Reader
			t.Errorf("a body of type %T", r.Body)
			return cannedDecrypt(arn).RoundTrip(r)
		}
		copied, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		for _, body := range []io.Reader{r.Body, copied} {
			text, err := io.ReadAll(body)
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, string(text))
		}
		return cannedDecrypt(arn).RoundTrip(r)
	}))
	if _, err := k.Decrypt(t.Context(), arn, []byte("blob"), nil); err != nil {
		t.Fatal(err)
	}
	if len(bodies) != 2 || bodies[0] != bodies[1] || !strings.Contains(bodies[0], arn) {
		t.Errorf("sent %q", bodies)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// A caller whose turn does not come before its deadline gives up the wait.
func TestWaitingForAConnectionIsBounded(t *testing.T) {
	s := newService(t)
	arn := s.key(t, kmsserver.KeySpec{Region: here})
	k, err := kms.New(kms.Config{Region: here, Endpoint: s.url, Credentials: static(), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	s.set(t, kmsserver.Fault{Region: here, Mode: kmsserver.Hang})
	start := time.Now()
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			errs <- within(t, 50*time.Millisecond, func(ctx context.Context) error { return k.Check(ctx, arn) })
		}()
	}
	for range cap(errs) {
		if err := <-errs; err == nil {
			t.Error("a hanging server answered")
		}
	}
	if waited := time.Since(start); waited > 5*time.Second {
		t.Errorf("waited %v", waited)
	}
	s.set(t, kmsserver.Fault{Region: here, Mode: kmsserver.Up})
	if err := k.Check(t.Context(), arn); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func within(t *testing.T, d time.Duration, do func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return do(ctx)
}

var _ crypto.KMS = (*kms.KMS)(nil)
