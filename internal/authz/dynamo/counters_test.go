package dynamo_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	authzdynamo "piivault/internal/authz/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

// dated gives every answer the date of a clock.
type dated struct {
	http.RoundTripper
	clock *authztest.Clock
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := d.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Header.Set("Date", d.clock.Now().UTC().Format(http.TimeFormat))
	}
	return res, err
}

const countersTable = "counters"

func openCounters(t *testing.T, account dynamolocal.Account, clock *authztest.Clock) (*authzdynamo.Counters, *dynamolocal.Faults) {
	t.Helper()
	faults := dynamolocal.NewFaults()
	cfg := account.Config("eu-west-1")
	cfg.Transport, cfg.Attempt = dated{faults, clock}, patient
	client := dynamolocal.NewClient(t, cfg)
	if err := dynamo.CreateTables(t.Context(), client, dynamo.Names{Counters: countersTable}); err != nil {
		t.Fatal(err)
	}
	return authzdynamo.NewCounters(client, countersTable), faults
}

func TestCountersConformance(t *testing.T) {
	authztest.RunCounters(t, func(t *testing.T, clock *authztest.Clock) authz.Counters {
		t.Helper()
		c, _ := openCounters(t, server.Account(), clock)
		return asking{c}
	})
}

// asking has a call before each write, which learns of the turned clock.
type asking struct{ *authzdynamo.Counters }

func (a asking) Take(ctx context.Context, c authz.Counter, n, limit int64) (authz.Taken, error) {
	if _, err := a.Used(ctx, c); err != nil {
		return authz.Taken{}, err
	}
	return a.Counters.Take(ctx, c, n, limit)
}

// Two instances whose clocks are hours apart count in the same window,
// because neither clock matters (G5).
func TestInstancesAgreeOnTheWindow(t *testing.T) {
	clock, account := authztest.NewClock(), server.Account()
	a, _ := openCounters(t, account, clock)
	b, _ := openCounters(t, account, clock)
	c := authz.Counter{Tenant: "t", Name: "n", Span: authz.Hour}
	first, err := a.Take(t.Context(), c, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Take(t.Context(), c, 3, 5)
	if err != nil || second.Window != first.Window || second.Units != 2 {
		t.Errorf("%+v after %+v, %v", second, first, err)
	}
	if first.Window != authz.Hour.Window(clock.Now()) || time.Since(clock.Now()).Abs() < time.Hour {
		t.Errorf("window %d is not the table's", first.Window)
	}
}

// A counter that cannot be reached gives nothing, and an answer that was lost
// counts: never does anybody get a unit twice (G5).
func TestCountersUnderFaults(t *testing.T) {
	for name, fault := range map[string]dynamolocal.Fault{
		"refused": dynamolocal.Refused, "lost": dynamolocal.Lost, "throttled": dynamolocal.Throttled,
	} {
		t.Run(name, func(t *testing.T) {
			c, faults := openCounters(t, server.Account(), authztest.NewClock())
			counter := authz.Counter{Tenant: "t", Name: "n", Span: authz.Day}
			given := int64(0)
			for range 12 {
				faults.Once("UpdateItem", fault)
				taken, err := c.Take(t.Context(), counter, 2, 10)
				if err != nil && !errors.Is(err, authz.ErrUnavailable) {
					t.Fatal(err)
				}
				given += taken.Units
			}
			faults.Once("UpdateItem", fault)
			m, in := authz.Member{Tenant: "t", Set: "s", Name: "m"}, authz.Windows{Hour: 48, Day: 2}
			if before, err := c.Mark(t.Context(), m, in); err != nil || before != (authz.Windows{}) {
				t.Errorf("a first mark: before in %+v, %v", before, err)
			}
			if is, err := c.Marked(t.Context(), m); err != nil || is != in {
				t.Errorf("marked in %+v, %v", is, err)
			}
			if given > 10 || (fault != dynamolocal.Lost && given != 10) || given == 0 {
				t.Errorf("%d units of 10", given)
			}
		})
	}
}
