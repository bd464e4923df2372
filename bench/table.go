package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const header = `Medians of interleaved turns; ratio = vault over floor; CPU in seconds per 1,000 requests, of the server process;
latency in ms; memory of the vault's process in MiB, now and the row's peak.

request           conn  requests/s          ratio   CPU s/1,000      ratio   p50 ms            ratio   p99 ms            ratio   memory
                         floor    vault              floor   vault            floor    vault             floor    vault            rss  peak
`

// row is all turns of one load at one number of connections.
type row struct {
	load         string
	connections  int
	floor, vault []turn // by round
	rss, peak    float64
}

func (r row) String() string {
	figure := func(of func(turn) float64, form string) string {
		floor, vault := make([]float64, len(r.floor)), make([]float64, len(r.floor))
		ratio := make([]float64, len(r.floor))
		for i := range r.floor {
			floor[i], vault[i] = of(r.floor[i]), of(r.vault[i])
			ratio[i] = vault[i] / floor[i]
		}
		return fmt.Sprintf(form, median(floor), median(vault), median(ratio))
	}
	return fmt.Sprintf("%-16s %5d ", pad(r.load, 16), r.connections) +
		figure(func(t turn) float64 { return t.perSecond }, "%8.0f %8.0f  %5.2f  ") +
		figure(func(t turn) float64 { return t.cpu }, "%7.3f %7.3f  %5.2f  ") +
		figure(func(t turn) float64 { return t.p50 }, "%8.3f %8.3f  %5.2f  ") +
		figure(func(t turn) float64 { return t.p99 }, "%8.3f %8.3f  %5.2f  ") +
		fmt.Sprintf("%5.0f %5.0f\n", r.rss, r.peak)
}

// pad counts letters; × is two bytes.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-len([]rune(s)))) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// quantile sorts d and returns the smallest value that q of them do not exceed.
func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

func parseCounts(s string) ([]int, error) {
	var counts []int
	for field := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("connections: %q is not a list of numbers", s)
		}
		counts = append(counts, n)
	}
	slices.SortFunc(counts, cmp.Compare[int])
	return counts, nil
}
