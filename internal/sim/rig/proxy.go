package rig

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Mode is how a proxy misbehaves.
type Mode string

// The modes.
const (
	Pass     Mode = "pass"
	Hang     Mode = "hang"     // takes the call and never answers; it is not applied
	Refuse   Mode = "refuse"   // the connection is reset; it is not applied
	Throttle Mode = "throttle" // the service's own error of that name; it is not applied
	Late     Mode = "late"     // applied, and answered after the caller's patience
	Lost     Mode = "lost"     // applied, and the connection is reset
	Broken   Mode = "broken"   // applied, and answered with the service's internal error
)

// lateness is beyond what the vault waits for one answer.
const lateness = 1500 * time.Millisecond

// Services, as in Where.
const (
	DynamoDB = "dynamodb"
	KMS      = "kms"
)

// Fault is an order to misbehave; its zero value ends one.
type Fault struct {
	Mode  Mode
	Op    string // of this operation only, such as PutItem
	Table string // of calls that name this table only
	Every int    // each so many-th call of those; 0: all
}

// Where names proxies by whose calls they carry; "" is all.
type Where struct {
	Instance string // the caller
	Region   string // of the service that is called
	Service  string // DynamoDB or KMS
}

func (w Where) covers(other Where) bool {
	return (w.Instance == "" || w.Instance == other.Instance) &&
		(w.Region == "" || w.Region == other.Region) && (w.Service == "" || w.Service == other.Service)
}

// Call is what is counted of a call.
type Call struct {
	Op    string
	Table string // of DynamoDB's
}

// proxy stands between one instance and one service of one region.
type proxy struct {
	where  Where
	url    string
	tables []string
	next   http.Handler
	server *httptest.Server
	closed chan struct{}

	mu    sync.Mutex // guards what follows
	fault Fault
	met   int // calls that the fault was about
	open  int // calls under way
	calls map[Call]int
}

func newProxy(where Where, tables []string, next http.Handler) *proxy {
	p := &proxy{where: where, tables: tables, next: next, closed: make(chan struct{}), calls: map[Call]int{}}
	p.server = httptest.NewServer(p)
	p.url = p.server.URL
	return p
}

func (p *proxy) close() {
	close(p.closed)
	p.server.Close()
}

func (p *proxy) set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.met = f, 0
}

// busy reports that calls are under way.
func (p *proxy) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open > 0
}

// take adds the calls since the last time.
func (p *proxy) take(into map[Call]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for call, n := range p.calls {
		into[call] += n
	}
	p.calls = map[Call]int{}
}

// meet counts a call and says what becomes of it.
func (p *proxy) meet(c Call) Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[c]++
	p.open++
	f := p.fault
	if f.Mode == "" || (f.Op != "" && f.Op != c.Op) || (f.Table != "" && f.Table != c.Table) {
		return Pass
	}
	p.met++
	if f.Every > 1 && p.met%f.Every != 0 {
		return Pass
	}
	return f.Mode
}

// end: a call that its caller gave up does not count. On a busy machine there is
// one more, and that is not what is asked.
func (p *proxy) end(c Call, givenUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if givenUp && p.calls[c] > 0 {
		p.calls[c]--
	}
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // to its end: only then is it noticed that the caller has left
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	call := Call{op, p.table(body)}
	mode := p.meet(call)
	defer func() { p.end(call, r.Context().Err() != nil) }()
	switch mode {
	case Hang:
		p.wait(r.Context(), time.Hour)
	case Refuse:
		reset(w)
	case Throttle:
		p.refuse(w, http.StatusBadRequest, map[string]string{DynamoDB: "ProvisionedThroughputExceededException", KMS: "ThrottlingException"})
	case Late, Lost, Broken:
		p.apply(w, r, mode)
	default:
		p.next.ServeHTTP(w, r)
	}
}

// apply lets a call reach the service, whether or not its caller waits.
func (p *proxy) apply(w http.ResponseWriter, r *http.Request, mode Mode) {
	answer := httptest.NewRecorder()
	p.next.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
	switch mode {
	case Late:
		p.wait(r.Context(), lateness)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // the caller may have left
	case Broken:
		p.refuse(w, http.StatusInternalServerError, map[string]string{DynamoDB: "InternalServerError", KMS: "KMSInternalException"})
	default:
		reset(w)
	}
}

// table is that of ours which a call of DynamoDB's names.
func (p *proxy) table(body []byte) string {
	if p.where.Service == DynamoDB {
		for _, name := range p.tables {
			if bytes.Contains(body, []byte(`"`+name+`"`)) {
				return name
			}
		}
	}
	return ""
}

// wait holds a call; it ends if the caller leaves or the proxy closes.
func (p *proxy) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	case <-p.closed:
		panic(http.ErrAbortHandler)
	}
}

// reset ends the connection at once, with a TCP reset.
func reset(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // closed all the same
			}
			_ = conn.Close() // of a connection that is given up
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// refuse answers with an error in the service's shape (JSON protocol 1.0 and 1.1).
func (p *proxy) refuse(w http.ResponseWriter, status int, codes map[string]string) {
	w.Header().Set("Content-Type", map[string]string{DynamoDB: "application/x-amz-json-1.0", KMS: "application/x-amz-json-1.1"}[p.where.Service])
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"__type":"`+codes[p.where.Service]+`","message":"injected"}`) // the caller may have left
}

// forward passes calls on to a server.
func forward(to string) (http.Handler, func(), error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, nil, errors.New("rig: the endpoint is not a URL")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	h := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: transport,
		// The caller has left, as a rule; otherwise a broken connection says it.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return h, transport.CloseIdleConnections, nil
}
