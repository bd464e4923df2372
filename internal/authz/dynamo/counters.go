package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"piivault/internal/authz"
	"piivault/internal/dynamo"
)

// Attributes and sort keys of the counters table (docs/design/format.md §6).
const (
	attrWindow = "w"
	attrUsed   = "n"
	attrHour   = "h" // of a mark: windows
	attrDay    = "d"

	sortCounter = "counter#" // and the span in seconds
	sortMark    = "mark#"    // and the member

	// rowLife is how long after its last use a row may matter, with room.
	rowLife = 3 * 24 * time.Hour
	// maxRounds bounds the attempts to meet a counter that others change too.
	maxRounds = 16
)

// Counters are one region's, in a table of its own. Windows go by DynamoDB's
// clock, which every answer tells. It implements authz.Counters.
type Counters struct {
	db    *dynamo.Client
	table string
}

var _ authz.Counters = (*Counters)(nil)

// NewCounters returns the counters in the table of that name, defined as
// dynamo.CreateTables does.
func NewCounters(client *dynamo.Client, table string) *Counters { return &Counters{client, table} }

func rowKey(tenant, name, sort string) (dynamo.Key, error) {
	if tenant == "" || name == "" || len(tenant)+len(name) >= 2*maxKey || len(sort) > maxKey {
		return dynamo.Key{}, fmt.Errorf("%w: the names of a counter", errInvalid)
	}
	return dynamo.Key{PK: tenant + "#" + name, SK: sort}, nil
}

func counterKey(c authz.Counter) (dynamo.Key, error) {
	return rowKey(c.Tenant, c.Name, fmt.Sprintf("%s%d", sortCounter, int64(time.Duration(c.Span).Seconds())))
}

// now is DynamoDB's clock. A first call asks for anything, to be told.
func (c *Counters) now(ctx context.Context, key dynamo.Key) (time.Time, error) {
	if now, known := c.db.ServerNow(); known {
		return now, nil
	}
	if _, err := c.db.Get(ctx, c.table, key); err != nil {
		return time.Time{}, err
	}
	now, known := c.db.ServerNow()
	if !known {
		return time.Time{}, errors.New("dynamo: an answer without a date")
	}
	return now, nil
}

func decodeCounted(row dynamo.Item) (authz.Count, error) {
	if row == nil {
		return authz.Count{}, nil
	}
	f := dynamo.Read(row)
	is := authz.Count{Window: f.Int(attrWindow), Used: f.Int(attrUsed)}
	if version := f.Int(attrVersion); f.Err() == nil && version != itemVersion {
		return authz.Count{}, fmt.Errorf("version of a counter: %w", dynamo.ErrCorrupt)
	}
	return is, f.Err()
}

// Take implements authz.Counters. It guesses that the window goes on and has
// room, which is one call, and learns from the refusal if not.
func (c *Counters) Take(ctx context.Context, counter authz.Counter, n, limit int64) (authz.Taken, error) {
	key, err := counterKey(counter)
	if err == nil && (n < 1 || limit < 0) {
		err = fmt.Errorf("%w: at least a unit is taken, of a limit", errInvalid)
	}
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	now, err := c.now(ctx, key)
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	taken := authz.Taken{Window: counter.Span.Window(now), Units: min(n, limit)}
	for fresh, round := false, 0; round < maxRounds && taken.Units > 0; round++ {
		old, err := c.add(ctx, key, counter.Span, taken, limit, fresh)
		is, decodeErr := decodeCounted(old)
		switch {
		case decodeErr != nil:
			return authz.Taken{}, fault("take", decodeErr)
		case err == nil:
			taken.Left = limit - is.In(taken.Window).Used - taken.Units
			taken.Ends = counter.Span.Ends(taken.Window, now)
			return taken, nil
		case !errors.Is(err, dynamo.ErrCondition):
			return authz.Taken{}, fault("take", err)
		}
		fresh = is.Window < taken.Window
		is = is.In(taken.Window)
		taken.Window, taken.Units = is.Window, max(0, min(n, limit-is.Used))
	}
	if taken.Units > 0 {
		return authz.Taken{}, fault("take", dynamo.ErrThrottled)
	}
	taken.Ends = counter.Span.Ends(taken.Window, now)
	return taken, nil
}

// add takes units of a window: fresh begins it, else it is under way.
func (c *Counters) add(ctx context.Context, key dynamo.Key, span authz.Span, t authz.Taken, limit int64, fresh bool) (dynamo.Item, error) {
	values := dynamo.Item{
		":w": dynamo.Int(t.Window), ":n": dynamo.Int(t.Units), ":v": dynamo.Int(itemVersion),
		":ttl": dynamo.Int((t.Window+1)*int64(time.Duration(span).Seconds()) + int64(rowLife.Seconds())),
	}
	names := map[string]string{"#ttl": dynamo.TTLAttribute}
	if fresh {
		old, _, err := c.db.UpdateOld(ctx, c.table, key, "SET w = :w, n = :n, v = :v, #ttl = :ttl", dynamo.Condition{
			Expression: "attribute_not_exists(pk) OR w < :w", Names: names, Values: values,
		})
		return old, err
	}
	values[":room"] = dynamo.Int(limit - t.Units)
	old, _, err := c.db.UpdateOld(ctx, c.table, key, "SET n = n + :n, v = :v, #ttl = :ttl", dynamo.Condition{
		Expression: "w = :w AND n <= :room", Names: names, Values: values,
	})
	return old, err
}

// Now implements authz.Counters.
func (c *Counters) Now(ctx context.Context) (time.Time, error) {
	now, err := c.now(ctx, dynamo.Key{PK: "#", SK: "#"})
	return now, fault("read the clock", err)
}

// Used implements authz.Counters.
func (c *Counters) Used(ctx context.Context, counter authz.Counter) (int64, error) {
	key, err := counterKey(counter)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	row, err := c.db.Get(ctx, c.table, key)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	now, err := c.now(ctx, key)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	is, err := decodeCounted(row)
	return is.In(counter.Span.Window(now)).Used, fault("read a counter", err)
}

// Mark implements authz.Counters.
func (c *Counters) Mark(ctx context.Context, m authz.Member, in authz.Windows) (before authz.Windows, err error) {
	key, err := rowKey(m.Tenant, m.Set, sortMark+m.Name)
	if err != nil {
		return before, fault("mark", err)
	}
	life := time.Duration(in.Day)*time.Duration(authz.Day) + rowLife
	old, again, err := c.db.UpdateOld(ctx, c.table, key, "SET h = :h, d = :d, v = :v, #ttl = :ttl", dynamo.Condition{
		Expression: "attribute_not_exists(pk) OR h <= :h AND d <= :d",
		Names:      map[string]string{"#ttl": dynamo.TTLAttribute},
		Values: dynamo.Item{
			":h": dynamo.Int(in.Hour), ":d": dynamo.Int(in.Day), ":v": dynamo.Int(itemVersion), ":ttl": dynamo.Int(int64(life.Seconds())),
		},
	})
	if err != nil && !errors.Is(err, dynamo.ErrCondition) {
		return before, fault("mark", err)
	}
	if again {
		return before, nil // what is there may be this very mark: taken for another's, its unit would come back
	}
	before, err = decodeMark(old)
	return before, fault("mark", err)
}

// Marked implements authz.Counters.
func (c *Counters) Marked(ctx context.Context, m authz.Member) (authz.Windows, error) {
	key, err := rowKey(m.Tenant, m.Set, sortMark+m.Name)
	if err != nil {
		return authz.Windows{}, fault("read a mark", err)
	}
	row, err := c.db.Get(ctx, c.table, key)
	if err != nil {
		return authz.Windows{}, fault("read a mark", err)
	}
	is, err := decodeMark(row)
	return is, fault("read a mark", err)
}

func decodeMark(row dynamo.Item) (authz.Windows, error) {
	if row == nil {
		return authz.Windows{}, nil
	}
	f := dynamo.Read(row)
	is := authz.Windows{Hour: f.Int(attrHour), Day: f.Int(attrDay)}
	if version := f.Int(attrVersion); f.Err() == nil && version != itemVersion {
		return authz.Windows{}, fmt.Errorf("version of a mark: %w", dynamo.ErrCorrupt)
	}
	return is, f.Err()
}
