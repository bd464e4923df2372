package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// The whole measurement, small: a row for each kind.
func TestTiming(t *testing.T) {
	out := new(strings.Builder)
	if err := timing(t.Context(), t.TempDir(), 5, out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"unknown, again", "denied", "denied, with a subject", "expired", "another tenant's", "erased"} {
		if !strings.Contains(out.String(), "\n"+name+" ") {
			t.Errorf("no row for %s in\n%s", name, out)
		}
	}
}

func TestRanked(t *testing.T) {
	low, high := []time.Duration{1, 2, 3}, []time.Duration{4, 5, 6}
	if larger, apart := ranked(low, low); larger != 0.5 || apart != 0 {
		t.Errorf("the same: %v, %v", larger, apart)
	}
	if larger, apart := ranked(high, low); larger != 1 || apart != 1 {
		t.Errorf("apart: %v, %v", larger, apart)
	}
}

// Of times as they are measured, a planted shift is found, and none where there is none.
func TestContrast(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sample := func(shift time.Duration) []time.Duration {
		s := make([]time.Duration, 2000)
		for i := range s {
			s[i] = 300*time.Microsecond + shift + time.Duration(random.ExpFloat64()*float64(60*time.Microsecond))
		}
		return s
	}
	base := sample(0)
	same := contrasted(sample(0), slices.Clone(base), random)
	if same.chance < 0.05 || same.larger < 0.47 || same.larger > 0.53 || same.t < -4.5 || same.t > 4.5 {
		t.Errorf("the same: %+v", same)
	}
	slower := contrasted(sample(28*time.Microsecond), slices.Clone(base), random)
	if slower.chance > 0.01 || slower.larger < 0.6 || slower.t < 4.5 || slower.apart < 0.2 || slower.shift < 20*time.Microsecond {
		t.Errorf("28 µs slower: %+v", slower)
	}
	if few, many := needed(slower.larger), needed(same.larger); few > 500 || many < 3000 {
		t.Errorf("%.0f requests tell them apart, and %.0f what is the same", few, many)
	}
}
