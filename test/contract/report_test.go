package contract_test

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// run is of schemathesis's JSON report what we look at.
type run struct {
	Complete bool                               `json:"complete"`
	Phases   map[string]struct{ Status string } `json:"phases"`
	Failures []json.RawMessage                  `json:"failures"`
	Cases    struct{ Generated, Errored int }   `json:"test_cases"`
}

func readRun(t *testing.T, path string) (r run) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scenario is an event of the NDJSON report: its cases, and what was sent,
// answered and checked of each, by id.
type scenario struct {
	Recorder struct {
		Cases        map[string]struct{ Value struct{ Method, Path string } }
		Checks       map[string][]struct{ Name, Status string }
		Interactions map[string]struct {
			Response struct {
				StatusCode int `json:"status_code"`
			}
		}
	}
}

// events sums up a run.
type events struct {
	checks, failedChecks, serverErrors int

	statuses  map[int]int
	succeeded map[string]int // answers of 2xx by operation
}

func readEvents(t *testing.T, path string) events {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	sum := events{statuses: map[int]int{}, succeeded: map[string]int{}}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		var event struct{ ScenarioFinished *scenario }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		if event.ScenarioFinished != nil {
			sum.add(event.ScenarioFinished)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sum
}

func (e *events) add(s *scenario) {
	for _, checks := range s.Recorder.Checks {
		e.checks += len(checks)
		for _, check := range checks {
			if check.Status == "failure" {
				e.failedChecks++
			}
		}
	}
	for id, interaction := range s.Recorder.Interactions {
		status := interaction.Response.StatusCode
		e.statuses[status]++
		switch status / 100 {
		case 2:
			sent := s.Recorder.Cases[id].Value
			e.succeeded[sent.Method+" "+sent.Path]++
		case 5:
			e.serverErrors++
		}
	}
}
