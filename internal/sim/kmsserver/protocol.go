package kmsserver

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

const (
	mediaType    = "application/x-amz-json-1.1"
	targetPrefix = "TrentService."
	maxBody      = 256 << 10
)

// apiError is an error in AWS's shape: a status, and {"__type", "message"}.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return "kmsserver: " + e.code }

func refused(code, message string) error {
	return &apiError{http.StatusBadRequest, code, message}
}

// operation is one of the service's, in one region. Its result is the answer.
type operation func(r *region, body []byte) (any, error)

// decoded makes an operation of a function with a typed request. Members that
// are not known are left alone, as AWS leaves most.
func decoded[In any](do func(r *region, in In) (any, error)) operation {
	return func(r *region, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, refused("SerializationException", "The request cannot be read.")
		}
		return do(r, in)
	}
}

func (s *Server) operations() map[string]operation {
	return map[string]operation{
		"CreateKey":           decoded(s.createKey),
		"DescribeKey":         decoded(s.describeKey),
		"ReplicateKey":        decoded(s.replicateKey),
		"EnableKey":           decoded(s.enableKey),
		"DisableKey":          decoded(s.disableKey),
		"ScheduleKeyDeletion": decoded(s.scheduleKeyDeletion),
		"CancelKeyDeletion":   decoded(s.cancelKeyDeletion),
		"GenerateDataKey":     decoded(s.generateDataKey),
		"Encrypt":             decoded(s.encrypt),
		"Decrypt":             decoded(s.decrypt),
		"Sign":                decoded(s.sign),
		"GetPublicKey":        decoded(s.getPublicKey),
	}
}

// routes are what the server answers to.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	operations := s.operations()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) { s.serveKMS(w, r, operations) })
	mux.HandleFunc("POST /_faults", s.serveFaults)
	mux.HandleFunc("GET /_health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /_keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]any{"regions": s.Regions()}) // the client may be gone
	})
	return mux
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// serveKMS reads the request to its end first: only then does net/http watch
// whether the client is still there.
func (s *Server) serveKMS(w http.ResponseWriter, r *http.Request, operations map[string]operation) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answer(w, nil, &apiError{http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "The request is too long."})
		return
	}
	where, err := s.region(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	name, ours := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	do := operations[name]
	if !ours || do == nil {
		answer(w, nil, refused("UnknownOperationException", "There is no such operation here."))
		return
	}
	fault := where.fault.meet(name)
	switch fault.Mode {
	case Down:
		panic(http.ErrAbortHandler)
	case Hang:
		s.hang(r.Context())
	case Throttle:
		err = refused("ThrottlingException", "You have exceeded the rate at which you may call KMS.")
	case Deny:
		err = refused("AccessDeniedException", "The caller is not authorized to perform this operation.")
	case Broken:
		err = &apiError{http.StatusInternalServerError, "KMSInternalException", "An internal error occurred."}
	case Slow:
		s.wait(r.Context(), fault.Delay)
	case Up, Late:
	}
	var out any
	if err == nil {
		out, err = do(where, body)
	}
	if fault.Mode == Late {
		s.wait(r.Context(), fault.Delay)
	}
	answer(w, out, err)
}

// region is that of the credential scope: AKID/date/region/kms/aws4_request.
func (s *Server) region(r *http.Request) (*region, error) {
	const missing = "The request has no signature with a credential scope."
	authorization, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, refused("MissingAuthenticationTokenException", missing)
	}
	_, rest, ok := strings.Cut(authorization, "Credential=")
	credential, _, _ := strings.Cut(rest, ",")
	scope := strings.Split(credential, "/")
	if !ok || len(scope) != 5 || scope[3] != "kms" || scope[4] != "aws4_request" {
		return nil, refused("IncompleteSignatureException", missing)
	}
	where := s.regions[scope[2]]
	if where == nil {
		return nil, refused("UnrecognizedClientException", "The region of the credential scope is not served here.")
	}
	return where, nil
}

// answer writes a result or an error. What is no apiError is a fault of ours.
func answer(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		refusal := &apiError{http.StatusInternalServerError, "KMSInternalException", "An internal error occurred."}
		_ = errors.As(err, &refusal)
		status = refusal.status
		out = map[string]string{"__type": refusal.code, "message": refusal.message}
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}
