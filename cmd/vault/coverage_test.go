package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"piivault/client"
)

func someCoverage() client.CoverageResponse {
	lag := 1.25
	return client.CoverageResponse{
		CountedAt: time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC), RingEpoch: 2, Records: 100_000, DegradedRecords: 25_003, OutdatedRecords: 7, TenantSecrets: 2,
		Regions: []client.RegionCoverage{
			{Name: "eu-west-1", Kms: "up", UnreadableIfLost: 25_000},
			{Name: "us-east-1", Kms: "denied", UnreadableIfLost: 3, MissingCopies: 25_000, SecretsUnreadableIfLost: 1, ReplicationLagSeconds: &lag},
			{Name: `<&">`, Kms: "up"},
		},
	}
}

// golden compares with testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := "testdata/" + name
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s", name, got)
	}
}

func TestCoveragePictures(t *testing.T) {
	picture := coverageSVG(someCoverage())
	golden(t, "coverage.svg", picture)
	golden(t, "coverage.bars", coverageBars(someCoverage()))
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal("not XML:", err)
		}
	}
	if strings.Contains(strings.ReplaceAll(string(picture), "http://www.w3.org/2000/svg", ""), "http") {
		t.Error("the picture needs something else")
	}
}

// G3: what says that a region may leave the ring says so of one that nothing needs alone.
func TestCoverageWithoutARegion(t *testing.T) {
	for region, may := range map[string]bool{"eu-west-1": false, "us-east-1": false, `<&">`: true, "ap-east-1": false} {
		if err := needs(someCoverage(), region); (err == nil) != may {
			t.Errorf("%s: %v", region, err)
		}
	}
	secrets := client.CoverageResponse{Regions: []client.RegionCoverage{{Name: "a", SecretsUnreadableIfLost: 1}}}
	if err := needs(secrets, "a"); err == nil {
		t.Error("tenant secrets do not count")
	}
}

func TestPercentNeverRoundsALossAway(t *testing.T) {
	for p, want := range map[float64]string{100: "100", 99.9999: "99.99", 75: "75", 33.333: "33.33", 0: "0"} {
		if got := percent(p); got != want {
			t.Errorf("%v: %s, want %s", p, got, want)
		}
	}
	if p := stays(client.CoverageResponse{}, client.RegionCoverage{}); p != 100 {
		t.Errorf("of no records %v stay", p)
	}
}
