package drills_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/sim/kmsserver"
	"piivault/internal/sim/rig"
)

// The sizes are small where nothing is asked for. For the figures, on a quiet machine:
//
//	go test ./test/drills -run 'TestOutage|TestPrefetchHidesKMS' -v -timeout 60m -fields 10000 -rounds 5
var (
	fields  = flag.Int("fields", 60, "values written during each outage, and in each healthy run beside it")
	rounds  = flag.Int("rounds", 1, "healthy runs and outages, in turns")
	outage  = flag.String("outage", "", "only of the remote or of the local KMS")
	writers = flag.Int("writers", 4, "clients at once")
	nearby  = flag.Duration("kms-local", 5*time.Millisecond, "what the local KMS takes, with prefetch")
	afar    = flag.Duration("kms-remote", 700*time.Millisecond, "what the remote KMS takes, with prefetch")
)

// outageTimeout of a KMS call is the default of production.
const outageTimeout = time.Second

// written is what became of a run of writes.
type written struct {
	list    []kept
	refused int
	lacking int // records without the region's copy
	took    []time.Duration
}

// write has clients of a region keep n values, one a request, and waits for all.
func (d *drill) write(t *testing.T, region, who string, n int, down string) (w written) {
	t.Helper()
	var mu sync.Mutex // guards w
	var clients sync.WaitGroup
	for c := range *writers {
		instances := d.In(region)
		to := instances[c%len(instances)].Client(t)
		clients.Go(func() {
			for i := c; i < n; i += *writers {
				item := client.TokenizeItem{Type: "email", Value: fmt.Sprintf("%s%d@example.com", who, i)}
				began := time.Now()
				answer, err := to.Tokenize(t.Context(), "", client.TokenizeRequest{Items: []client.TokenizeItem{item}})
				took := time.Since(began)
				mu.Lock()
				w.took = append(w.took, took)
				if err != nil {
					w.refused++
				} else {
					w.list = append(w.list, kept{token: answer.Items[0].Token, value: item.Value})
					if slices.Contains(answer.Items[0].KeyCopies.Missing, down) {
						w.lacking++
					}
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return w
}

// at is a percentile of what requests took.
func (w *written) at(percent int) time.Duration {
	slices.Sort(w.took)
	return w.took[(len(w.took)-1)*percent/100]
}

// round is a healthy run and an outage after it.
type round struct {
	healthy, outage written
	first           time.Duration // of the outage, before the breaker is open
	repaired        time.Duration // after its end
	calls           float64       // of KMS, for each record that was repaired
}

// The outage drill (G2, G3): values are written while the remote KMS hangs,
// then while the local one does: none is refused, every record says what it
// lacks, and is repaired unasked.
func TestOutage(t *testing.T) {
	t.Parallel()
	d := newDrill(t, rig.Config{PerRegion: 1, KMSTimeout: outageTimeout, More: quiet})
	for _, down := range []string{rig.US, rig.EU} {
		name := map[string]string{rig.US: "remote", rig.EU: "local"}[down]
		if *outage != "" && *outage != name {
			continue
		}
		var all []round
		for n := range *rounds {
			all = append(all, d.outage(t, down, n))
		}
		middle := func(what func(round) float64) float64 {
			values := make([]float64, len(all))
			for i, r := range all {
				values[i] = what(r)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		ratio := func(percent int) float64 {
			return middle(func(r round) float64 { return ms(r.outage.at(percent)) / ms(r.healthy.at(percent)) })
		}
		t.Logf("%s KMS hangs: %d × %d fields written, 0 refused; first write %.0f ms; p50 %.1f ms (healthy %.1f, ratio %.2f), p99 %.1f ms (healthy %.1f, ratio %.2f); repaired in %.1f s, %.2f KMS calls a record",
			name, *rounds, *fields, middle(func(r round) float64 { return ms(r.first) }),
			middle(func(r round) float64 { return ms(r.outage.at(50)) }), middle(func(r round) float64 { return ms(r.healthy.at(50)) }), ratio(50),
			middle(func(r round) float64 { return ms(r.outage.at(99)) }), middle(func(r round) float64 { return ms(r.healthy.at(99)) }), ratio(99),
			middle(func(r round) float64 { return r.repaired.Seconds() }), middle(func(r round) float64 { return r.calls }))
	}
}

func (d *drill) outage(t *testing.T, down string, n int) (r round) {
	t.Helper()
	who := fmt.Sprintf("%s-%d-", down, n)
	r.healthy = d.write(t, rig.EU, who+"healthy-", *fields, down)
	kms := rig.Where{Service: rig.KMS, Region: down}
	d.Fault(kms, rig.Fault{Mode: rig.Hang})
	first := d.write(t, rig.EU, who+"first-", *writers, down) // they meet it, and open the breaker
	r.first = first.at(100)
	r.outage = d.write(t, rig.EU, who+"outage-", *fields, down)
	if refused := r.healthy.refused + first.refused + r.outage.refused; refused != 0 || r.outage.lacking != *fields {
		t.Errorf("with the KMS of %s down: %d refused, %d of %d records lack its copy", down, refused, r.outage.lacking, *fields)
	}
	d.wantOpen(t, rig.EU, r.outage.list)
	d.Calls(t, rig.Where{Service: rig.KMS})
	d.Fault(rig.Where{}, rig.Fault{})
	r.repaired = d.repaired(t)
	calls := d.Calls(t, rig.Where{Service: rig.KMS})
	r.calls = float64(calls[rig.Call{Op: "Decrypt"}]+calls[rig.Call{Op: "Encrypt"}]) / float64(first.lacking+r.outage.lacking)
	if missing := d.missing(t, rig.EU, r.outage.list); missing != 0 {
		t.Errorf("%d records lack a copy after the repair", missing)
	}
	other := map[string]string{rig.US: rig.EU, rig.EU: rig.US}[down]
	d.Fault(rig.Where{Service: rig.KMS, Region: other}, rig.Fault{Mode: rig.Refuse})
	d.wantOpen(t, rig.EU, r.outage.list) // by the copy that was missing
	d.Fault(rig.Where{}, rig.Fault{})
	d.up(t)
	return r
}

// repaired waits until no region's table has a degraded record.
func (d *drill) repaired(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	d.until(t, "no degraded records", func(r client.RegionsResponse) bool { return r.DegradedRecords == 0 })
	return time.Since(began)
}

// up waits until every instance sees every KMS up again.
func (d *drill) up(t *testing.T) {
	t.Helper()
	d.until(t, "every KMS up", func(r client.RegionsResponse) bool {
		return !slices.ContainsFunc(r.Regions, func(of client.RegionInfo) bool { return of.Kms != client.KmsStateUp })
	})
}

// until waits for what every instance must see, longer where there is more to do.
func (d *drill) until(t *testing.T, what string, ok func(client.RegionsResponse) bool) {
	t.Helper()
	for _, i := range d.Instances {
		c := i.Client(t)
		poll(t, i.Name+" sees "+what, patience+time.Duration(*fields)*200*time.Millisecond, func() bool {
			answer, err := c.Regions(t.Context())
			return err == nil && ok(answer)
		})
	}
}

// With prefetch nobody waits for a KMS that takes its time, remote or local.
func TestPrefetchHidesKMS(t *testing.T) {
	t.Parallel()
	d := newDrill(t, rig.Config{PerRegion: 1})
	var ratios []float64
	var slow, fast written
	for n := range *rounds {
		fast = d.paced(t, fmt.Sprint("fast-", n, "-"), 0, 0)
		slow = d.paced(t, fmt.Sprint("slow-", n, "-"), *nearby, *afar)
		ratios = append(ratios, float64(slow.at(50))/float64(fast.at(50)))
		if slow.refused+fast.refused+slow.lacking+fast.lacking != 0 {
			t.Errorf("%d refused, %d without a copy", slow.refused+fast.refused, slow.lacking+fast.lacking)
		}
		if p50 := slow.at(50); p50 >= *afar {
			t.Errorf("half of the requests took %v, the remote KMS takes %v", p50, *afar)
		}
	}
	slices.SortFunc(ratios, cmp.Compare[float64])
	t.Logf("KMS at %v and %v: tokenize p50 %v, with a KMS that answers at once %v; ratio %.2f",
		*nearby, *afar, slow.at(50), fast.at(50), ratios[len(ratios)/2])
}

// paced writes while the KMS of each region takes a time, after some seconds
// in which the rate is learned.
func (d *drill) paced(t *testing.T, who string, local, remote time.Duration) written {
	t.Helper()
	for region, delay := range map[string]time.Duration{rig.EU: local, rig.US: remote} {
		f := kmsserver.Fault{Region: region, Mode: kmsserver.Slow, Delay: delay}
		if delay == 0 {
			f.Mode = kmsserver.Up
		}
		if err := d.Services.SetFault(f); err != nil {
			t.Fatal(err)
		}
	}
	for end, n := time.Now().Add(3*time.Second), 0; time.Now().Before(end); n++ {
		d.write(t, rig.EU, fmt.Sprint(who, "before-", n, "-"), *writers, rig.US)
	}
	return d.write(t, rig.EU, who, *fields, rig.US)
}
