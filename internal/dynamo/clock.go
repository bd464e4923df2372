package dynamo

import (
	"net/http"
	"sync/atomic"
	"time"

	"piivault/internal/awshttp"
)

// told is what an answer said of the time, and when by our clock. The
// difference of two readings of ours is monotonic: setting the wall clock
// changes nothing.
type told struct{ at, heard time.Time }

// clocked learns the service's clock from the Date of every answer.
type clocked struct {
	awshttp.InMemory
	last *atomic.Pointer[told] // nil until an answer came
}

// Do implements aws.HTTPClient.
func (c clocked) Do(r *http.Request) (*http.Response, error) {
	res, err := c.InMemory.Do(r)
	if err != nil {
		return res, err
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.last.Store(&told{at, time.Now()})
	}
	return res, nil
}

// ServerNow is the service's clock, to a second, as of its last answer; false
// before there was one. All instances of a region so agree on the time,
// whatever their own clocks say.
func (c *Client) ServerNow() (time.Time, bool) {
	if c.clock != nil {
		return c.clock(), true
	}
	last := c.told.Load()
	if last == nil {
		return time.Time{}, false
	}
	return last.at.Add(time.Since(last.heard)), true
}
