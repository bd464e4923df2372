package oidc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/secret"
)

// 100,000 tokens of key ids that nobody knows, within a minute of callers'
// time, make a few requests to the issuer; who holds a good one is served.
func TestAFloodOfUnknownKeysHardlyReachesTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP()
		v := running(t, p, trusted())
		fine := sign(t, "rsa", "RS256", good())
		parts := strings.Split(fine, ".")
		before := p.asked()
		for n := range 100_000 {
			head := fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, n)
			token := b64(head) + "." + parts[1] + "." + parts[2]
			if _, err := verify(t, v, token); !errors.Is(err, authz.ErrUnauthenticated) {
				t.Fatal(err)
			}
			if n%1000 == 0 {
				if _, err := verify(t, v, fine); err != nil {
					t.Fatal(err)
				}
				time.Sleep(600 * time.Millisecond)
			}
		}
		asked := p.asked() - before
		t.Logf("100,000 unknown key ids in one minute: %d requests reached the issuer", asked)
		if asked < 1 || asked > 7 {
			t.Errorf("%d requests reached the issuer", asked)
		}
	})
}

// The same at once, from many callers, while the issuer is slow: few wait,
// the others are told to come again.
func TestAFloodWhileTheIssuerIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP()
		v := running(t, p, trusted())
		time.Sleep(askAgain)
		before := p.asked()
		p.answers(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		fine := sign(t, "rsa", "RS256", good())
		parts := strings.Split(fine, ".")
		var mu sync.Mutex
		var refused, later int
		begun := time.Now()
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				token := b64(fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, n)) + "." + parts[1] + "." + parts[2]
				_, err := verify(t, v, token)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, authz.ErrUnauthenticated):
					refused++
				case errors.Is(err, authz.ErrUnavailable):
					later++
				}
			})
		}
		if _, err := verify(t, v, fine); err != nil {
			t.Errorf("a good token: %v", err)
		}
		wg.Wait()
		if p.asked()-before != 1 || refused != maxWaiting || later != 1000-maxWaiting {
			t.Errorf("%d requests; %d refused, %d told to come again", p.asked()-before, refused, later)
		}
		if took := time.Since(begun); took > fetchTimeout {
			t.Errorf("they waited for %v", took)
		}
	})
}

func b64(s string) string {
	return strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(base64.StdEncoding.EncodeToString([]byte(s))), "=")
}

// A new key works as soon as it signs, and one that was withdrawn no more,
// not even for tokens that were verified with it.
func TestRollover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP()
		v := running(t, p, trusted())
		old := sign(t, "rsa", "RS256", good())
		if _, err := verify(t, v, old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(askAgain)
		p.publishes("rsa", "rsa-next")
		if _, err := verify(t, v, sign(t, "rsa-next", "RS256", good())); err != nil {
			t.Errorf("a new key: %v", err)
		}
		p.publishes("rsa-next")
		time.Sleep(5*time.Minute + time.Second)
		if _, ok := v.Recall(secret.NewText(old)); ok {
			t.Error("the old key's token is recalled")
		}
		if _, err := verify(t, v, old); !errors.Is(err, authz.ErrUnauthenticated) {
			t.Errorf("the old key: %v", err)
		}
	})
}

// While the issuer is down, or answers nonsense, its last keys serve, for so
// long as is configured; then nobody is refused for good.
func TestTheIssuerIsDown(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]func(*http.Request) (*http.Response, error){
		"down":     func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"500":      func(*http.Request) (*http.Response, error) { return respond(500, `{"keys":[]}`), nil },
		"redirect": func(*http.Request) (*http.Response, error) { return respond(302, ""), nil },
		"garbage":  func(*http.Request) (*http.Response, error) { return respond(200, "<html>"), nil },
		"no keys":  func(*http.Request) (*http.Response, error) { return respond(200, `{"keys":[]}`), nil },
		"null":     func(*http.Request) (*http.Response, error) { return respond(200, `null`), nil },
		"secrets": func(*http.Request) (*http.Response, error) {
			return respond(200, `{"keys":[{"kty":"oct","kid":"rsa","k":"AAAA"}]}`), nil
		},
		"a private key": func(*http.Request) (*http.Response, error) {
			return respond(200, keySetOf(t, jose.JSONWebKey{Key: private, KeyID: "rsa"})), nil
		},
		"a weak key": func(*http.Request) (*http.Response, error) {
			return respond(200, keySetOf(t, jose.JSONWebKey{Key: weak.Public(), KeyID: "rsa"})), nil
		},
		"a key for encryption": func(*http.Request) (*http.Response, error) {
			return respond(200, keySetOf(t, jose.JSONWebKey{Key: private.Public(), KeyID: "rsa", Use: "enc"})), nil
		},
		"huge": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(endless{}), Header: http.Header{}}, nil
		},
		"many keys": func(*http.Request) (*http.Response, error) {
			return respond(200, `{"keys":[`+strings.Repeat(`{},`, 200)+`{}]}`), nil
		},
		"hangs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newIDP()
				c := trusted()
				c.KeepFor = time.Hour
				v := running(t, p, c)
				p.answers(answer)
				time.Sleep(59 * time.Minute)
				fine := sign(t, "rsa", "RS256", good())
				if _, err := verify(t, v, fine); err != nil {
					t.Errorf("within an hour: %v", err)
				}
				time.Sleep(2 * time.Minute)
				if _, err := verify(t, v, fine); !errors.Is(err, authz.ErrUnavailable) {
					t.Errorf("after an hour: %v", err)
				}
				if _, ok := v.Recall(secret.NewText(fine)); ok {
					t.Error("after an hour it is recalled")
				}
				if st := v.Status()[0]; st.Failed == 0 || st.Fetches > 61*6+2 {
					t.Errorf("%+v", st)
				}
				p.answers(nil)
				time.Sleep(askAgain + fetchTimeout)
				if _, err := verify(t, v, fine); err != nil {
					t.Errorf("the issuer is back: %v", err)
				}
			})
		})
	}
}

// endless is an answer that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func keySetOf(t *testing.T, list ...jose.JSONWebKey) string {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: list})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Before the first key set nobody is refused: it is not known who is good.
func TestBeforeTheFirstKeySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIDP()
		p.answers(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") })
		v := running(t, p, trusted())
		if _, err := verify(t, v, sign(t, "rsa", "RS256", good())); !errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stopped, err := New(Config{Issuers: []Issuer{trusted()}, Transport: p, Now: time.Now, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stopped.Verify(ctx, secret.NewText(sign(t, "rsa", "RS256", good()))); !errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("nobody reads: %v", err)
		}
	})
}

func TestDiscovery(t *testing.T) {
	documents := map[string]string{
		"another issuer":   `{"issuer":"https://evil.example","jwks_uri":"` + jwksURL + `"}`,
		"keys over http":   `{"issuer":"` + issuerURL + `","jwks_uri":"http://login.example.com/keys"}`,
		"no keys":          `{"issuer":"` + issuerURL + `"}`,
		"the issuer twice": `{"issuer":"https://evil.example","issuer":"` + issuerURL + `","jwks_uri":"` + jwksURL + `"}`,
	}
	c := trusted()
	c.JWKSURL = ""
	synctest.Test(t, func(t *testing.T) {
		v := running(t, newIDP(), c)
		if _, err := verify(t, v, sign(t, "rsa", "RS256", good())); err != nil {
			t.Errorf("discovered: %v", err)
		}
	})
	for name, document := range documents {
		synctest.Test(t, func(t *testing.T) {
			p := newIDP()
			p.answers(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path != "/.well-known/openid-configuration" {
					t.Errorf("%s: asked for %s", name, r.URL)
				}
				return respond(200, document), nil
			})
			v := running(t, p, c)
			if _, err := verify(t, v, sign(t, "rsa", "RS256", good())); !errors.Is(err, authz.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// A token is remembered until it ends, and five minutes at most.
func TestRecallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := running(t, newIDP(), trusted())
		short := sign(t, "rsa", "RS256", with(good(), "exp", time.Now().Unix()+60))
		long := sign(t, "rsa", "RS256", good())
		for _, token := range []string{short, long} {
			if _, err := verify(t, v, token); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(59 * time.Second)
		recalls := func(token string) bool { _, ok := v.Recall(secret.NewText(token)); return ok }
		if !recalls(short) || !recalls(long) {
			t.Error("not recalled")
		}
		time.Sleep(time.Second)
		if recalls(short) || !recalls(long) {
			t.Error("one that ended is recalled, or one that did not is not")
		}
		time.Sleep(4 * time.Minute)
		if recalls(long) {
			t.Error("recalled after five minutes")
		}
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	c := newCache()
	now := time.Now()
	for n := range maxVerified + 1000 {
		c.put(digestOf(fmt.Sprint(n)), remembered{until: now.Add(time.Minute)}, now)
	}
	if len(c.entries) > maxVerified {
		t.Errorf("%d entries", len(c.entries))
	}
}
