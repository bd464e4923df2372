package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// permutations of the test of medians: its p is at least a 1,000th.
const permutations = 999

// contrast is how one sample of times differs from another.
type contrast struct {
	shift  time.Duration // of the medians
	chance float64       // that labels dealt out at random shift them as far, either way
	larger float64       // share of pairs in which x's is the larger, ties half; 0.5: no telling apart
	apart  float64       // greatest distance of the distribution functions; 0: the same, 1: apart
	t      float64       // Welch's t of what is below the 99th percentile; beyond ±4.5 is a leak to dudect
}

// contrasted compares two samples, which it sorts. The tests: permutation of
// the difference of medians; Mann and Whitney's U over n·m, which is the area
// under the ROC curve; Kolmogorov and Smirnov's D; and t as dudect has it
// (Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", 2017).
func contrasted(x, y []time.Duration, random *rand.Rand) contrast {
	slices.Sort(x)
	slices.Sort(y)
	c := contrast{shift: middle(x) - middle(y), t: welch(x, y)}
	c.larger, c.apart = ranked(x, y)
	c.chance = permuted(x, y, random)
	return c
}

// middle is the upper median of a sorted sample.
func middle(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

func ranked(x, y []time.Duration) (larger, apart float64) {
	n, m := float64(len(x)), float64(len(y))
	for _, v := range slices.Concat(x, y) {
		below, _ := slices.BinarySearch(x, v+1)
		under, _ := slices.BinarySearch(y, v+1)
		apart = max(apart, math.Abs(float64(below)/n-float64(under)/m))
	}
	for _, v := range x {
		less, _ := slices.BinarySearch(y, v)
		notMore, _ := slices.BinarySearch(y, v+1)
		larger += float64(less) + float64(notMore-less)/2
	}
	return larger / (n * m), apart
}

// permuted is the share of permutations that shift the medians at least as far.
func permuted(x, y []time.Duration, random *rand.Rand) float64 {
	pooled := slices.Sorted(slices.Values(slices.Concat(x, y)))
	isX := make([]bool, len(pooled))
	for i := range x {
		isX[i] = true
	}
	observed := (middle(x) - middle(y)).Abs()
	as := 1 // the one that was observed
	for range permutations {
		random.Shuffle(len(isX), func(i, j int) { isX[i], isX[j] = isX[j], isX[i] })
		if dealt(pooled, isX, len(x)/2, len(y)/2).Abs() >= observed {
			as++
		}
	}
	return float64(as) / (permutations + 1)
}

// dealt is the difference of the medians of a sorted pool's two halves.
func dealt(pooled []time.Duration, isX []bool, toX, toY int) time.Duration {
	var x, y time.Duration
	for i, v := range pooled {
		switch {
		case isX[i]:
			if toX == 0 {
				x = v
			}
			toX--
		default:
			if toY == 0 {
				y = v
			}
			toY--
		}
	}
	return x - y
}

func welch(x, y []time.Duration) float64 {
	most := quantile(slices.Concat(x, y), 0.99)
	mx, vx := moments(x, most)
	my, vy := moments(y, most)
	if vx+vy == 0 {
		return 0
	}
	return (mx - my) / math.Sqrt(vx+vy)
}

// moments are the mean of what is at most so much, and that mean's variance.
func moments(sorted []time.Duration, most time.Duration) (mean, variance float64) {
	n, _ := slices.BinarySearch(sorted, most+1)
	for _, v := range sorted[:n] {
		mean += float64(v) / float64(n)
	}
	for _, v := range sorted[:n] {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
	}
	return mean, variance / float64(n)
}

// needed is how many requests, half of either kind, tell two kinds apart by
// rank, with both errors at 5 % (Noether, "Sample size determination for some
// common nonparametric tests", 1987).
func needed(larger float64) float64 {
	const both = 2 * 1.645 // quantiles of the normal distribution at 95 %
	return both * both / (3 * (larger - 0.5) * (larger - 0.5))
}
