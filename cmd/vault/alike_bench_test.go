package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// How long the refusals of TestRefusedTokensAreAnsweredAlike take: the kinds
// in turn, so that whatever else happens meets all alike. Of each kind it
// reports the median, and against unknown tokens the share of pairs in which
// the other took longer (0.5: no telling apart) and the largest distance of
// the two distributions (0: the same, 1: apart).
//
//	go test ./cmd/vault -run '^$' -bench RefusedTokens -benchtime 5000x
func BenchmarkRefusedTokens(b *testing.B) {
	a := newAlike(b)
	kinds := slices.Sorted(maps.Keys(a.tokens))
	took := map[string][]time.Duration{}
	b.ResetTimer()
	for i := range b.N {
		for j := range kinds {
			kind := kinds[(i+j)%len(kinds)]
			body := `{"purpose":"p","items":[{"token":"` + a.tokens[kind] + `"}]}`
			start := time.Now()
			if w := a.ask("/v1/detokenize", a.root, body); w.Code != 404 {
				b.Fatalf("%s is answered %d", kind, w.Code)
			}
			took[kind] = append(took[kind], time.Since(start))
		}
	}
	b.StopTimer()
	for _, list := range took {
		slices.Sort(list)
	}
	for _, kind := range kinds {
		slower, apart := compared(took[kind], took["unknown"])
		unit := strings.ReplaceAll(kind, " ", "-")
		b.ReportMetric(float64(took[kind][b.N/2].Microseconds()), unit+"-p50-µs")
		b.ReportMetric(slower, unit+"-slower")
		b.ReportMetric(apart, unit+"-apart")
	}
}

// compared is, of two sorted samples, the share of pairs in which x's is the
// larger (Mann-Whitney's U over n·m, ties half), and the greatest distance of
// their distribution functions (Kolmogorov and Smirnov's D).
func compared(x, y []time.Duration) (larger, distance float64) {
	n, m := float64(len(x)), float64(len(y))
	for _, v := range slices.Concat(x, y) {
		below, _ := slices.BinarySearch(x, v+1)
		under, _ := slices.BinarySearch(y, v+1)
		distance = max(distance, float64(below)/n-float64(under)/m, float64(under)/m-float64(below)/n)
	}
	for _, v := range x {
		less, _ := slices.BinarySearch(y, v)
		notMore, _ := slices.BinarySearch(y, v+1)
		larger += float64(less) + float64(notMore-less)/2
	}
	return larger / (n * m), distance
}

func TestCompared(t *testing.T) {
	low, high := []time.Duration{1, 2, 3}, []time.Duration{4, 5, 6}
	if larger, distance := compared(low, low); larger != 0.5 || distance != 0 {
		t.Errorf("the same: %v, %v", larger, distance)
	}
	if larger, distance := compared(high, low); larger != 1 || distance != 1 {
		t.Errorf("apart: %v, %v", larger, distance)
	}
}
