package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"
)

// question is one for cases.py or goesdk, which say what the fields mean.
type question struct {
	Op       string            `json:"op,omitzero"`
	Keyring  string            `json:"keyring,omitzero"`
	ARNs     []string          `json:"arns,omitzero"`
	Message  []byte            `json:"message,omitzero"`
	Token    string            `json:"token,omitzero"`
	Region   string            `json:"region,omitzero"`
	Records  string            `json:"records,omitzero"`
	Control  string            `json:"control,omitzero"`
	Tenant   string            `json:"tenant,omitzero"`
	Secret   []byte            `json:"secret,omitzero"`
	Suite    int               `json:"suite,omitzero"`
	Frame    int               `json:"frame"`
	Context  map[string]string `json:"context"`
	Place    *place            `json:"place,omitzero"`
	Value    []byte            `json:"value,omitzero"`
	Endpoint string            `json:"endpoint,omitzero"`
	ARN      string            `json:"arn,omitzero"`
}

// place is crypto.Place as cases.py reads it.
type place struct {
	Tenant     string `json:"tenant"`
	Record     string `json:"record"`
	Type       string `json:"type"`
	Generation uint32 `json:"generation"`
	Subject    string `json:"subject"`
	Created    int64  `json:"created"`
	Expires    int64  `json:"expires"`
}

// answer is one of theirs; Error is a kind, and empty where there is none.
type answer struct {
	place
	Value     []byte            `json:"value"`
	ARN       string            `json:"arn"`
	Plaintext []byte            `json:"plaintext"`
	Context   map[string]string `json:"context"`
	Suite     int               `json:"suite"`
	Copies    []string          `json:"copies"`
	Message   []byte            `json:"message"`
	Records   []row             `json:"records"`
	Secrets   []row             `json:"secrets"`
	Error     any               `json:"error"`
}

type row struct {
	PK      string `json:"pk"`
	SK      string `json:"sk"`
	Message []byte `json:"message"`
	Gap     string `json:"gap"`
}

func (a answer) failed() bool { return a.Error != nil && a.Error != "" }

// oracle is a process that answers a line with a line.
type oracle struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// startOracle ends the process with the test.
func startOracle(t *testing.T, env []string, command ...string) *oracle {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = env, &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends then; t's context has ended it already
		_ = cmd.Wait() // killed, or ended
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(command[0]), stderr.String())
		}
	})
	return &oracle{in, bufio.NewReader(out)}
}

// ask asks all, in one batch, and returns the answers in their order.
func (o *oracle) ask(t *testing.T, questions ...question) []answer {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		for _, q := range questions {
			line, err := json.Marshal(q)
			if err == nil {
				_, err = o.in.Write(append(line, '\n'))
			}
			if err != nil {
				sent <- fmt.Errorf("ask: %w", err)
				return
			}
		}
		sent <- nil
	}()
	answers := make([]answer, len(questions))
	for i := range answers {
		line, err := o.out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &answers[i])
		}
		if err != nil {
			t.Fatalf("answer %d of %d: %v", i, len(questions), err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return answers
}

// must is ask, and no answer is an error.
func (o *oracle) must(t *testing.T, questions ...question) []answer {
	t.Helper()
	answers := o.ask(t, questions...)
	for i, a := range answers {
		if a.failed() {
			t.Fatalf("%s, question %d: %v", questions[i].Op, i, a.Error)
		}
	}
	return answers
}
