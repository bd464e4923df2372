package dynamo

import (
	"net/http"
	"sync/atomic"
	"time"

	"piivault/internal/awshttp"
)

// clocked learns the service's clock from the Date of every answer.
type clocked struct {
	awshttp.InMemory
	ahead *atomic.Pointer[time.Duration] // of ours; nil until an answer came
}

// Do implements aws.HTTPClient.
func (c clocked) Do(r *http.Request) (*http.Response, error) {
	res, err := c.InMemory.Do(r)
	if err != nil {
		return res, err
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		ahead := time.Until(at)
		c.ahead.Store(&ahead)
	}
	return res, nil
}

// ServerNow is the service's clock, to a second, as of its last answer; false
// before there was one. All instances of a region so agree on the time,
// whatever their own clocks say.
func (c *Client) ServerNow() (time.Time, bool) {
	ahead := c.ahead.Load()
	if ahead == nil {
		return time.Time{}, false
	}
	return time.Now().Add(*ahead), true
}
