package streams

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/rs/zerolog"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

var server *dynamolocal.Server

func TestMain(m *testing.M) { os.Exit(dynamolocal.Main(m, &server)) }

// settleTime bounds what takes a second.
const settleTime = time.Minute

const table = "control"

// world is regions with one table each.
type world struct {
	*Replicator
	t    *testing.T
	stop func()
}

// regions makes tables in regions of a new account.
func regions(t *testing.T, names ...string) Config {
	t.Helper()
	account := server.Account()
	cfg := Config{Tables: []string{table}, Poll: 2 * time.Millisecond, Logger: zerolog.New(zerolog.NewTestWriter(t))}
	for _, name := range names {
		if err := dynamo.CreateTables(t.Context(), account.Client(t, name), dynamo.Names{Control: table}); err != nil {
			t.Fatal(err)
		}
		cfg.Regions = append(cfg.Regions, account.Config(name))
	}
	return cfg
}

// start runs a replicator; the test waits for its end.
func start(t *testing.T, cfg Config) *world {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w := &world{Replicator: r, t: t, stop: sync.OnceFunc(func() { cancel(); running.Wait(); r.Close() })}
	t.Cleanup(w.stop)
	w.settle() // it runs
	return w
}

func (w *world) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settleTime)
	defer cancel()
	if err := w.Settle(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// put writes a value of an item in a region; "" deletes it.
func (w *world) put(region int, key, value string) {
	w.t.Helper()
	put(w.t, w.regions[region], key, value)
}

func put(t *testing.T, one *region, key, value string) {
	t.Helper()
	item := dynamo.Key{PK: key, SK: "1"}.Item()
	var err error
	if name := table; value == "" {
		_, err = one.db.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &name, Key: item})
	} else {
		item["value"] = dynamo.String(value)
		if strings.HasPrefix(value, "more") {
			item["more"] = dynamo.Bytes([]byte(value))
		}
		_, err = one.db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &name, Item: item})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stamped waits until a write is seen: those that follow are later.
func (w *world) stamped(stamp uint64) {
	w.t.Helper()
	deadline := time.Now().Add(settleTime)
	for w.last() < stamp {
		if time.Now().After(deadline) {
			w.t.Fatal("a write is not seen")
		}
		_ = pause(w.t.Context(), time.Millisecond)
	}
}

func (w *world) last() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// values are what a region has.
func (w *world) values(region int) map[string]string {
	w.t.Helper()
	items, err := w.regions[region].scan(w.t.Context(), table)
	if err != nil {
		w.t.Fatal(err)
	}
	values := map[string]string{}
	for key, item := range items {
		values[key.PK] = dynamo.Read(item).String("value")
	}
	return values
}

func (w *world) want(want map[string]string) {
	w.t.Helper()
	for i := range w.regions {
		if got := w.values(i); fmt.Sprint(got) != fmt.Sprint(want) {
			w.t.Errorf("region %d has %v, not %v", i, got, want)
		}
	}
}

// Whatever is written where, in whatever order it travels, all regions end
// with the same, and no write comes back as another.
func TestConverges(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			cfg := regions(t, []string{"eu-west-1", "us-east-1", "ap-south-1"}[:2+seed%2]...)
			cfg.Seed = seed
			w := start(t, cfg)
			const ops = 120
			for range ops {
				value := fmt.Sprintf("%s%d", []string{"value", "more"}[random.IntN(2)], random.IntN(5))
				if random.IntN(4) == 0 {
					value = ""
				}
				w.put(random.IntN(len(w.regions)), fmt.Sprint("key", random.IntN(5)), value)
				switch random.IntN(12) {
				case 0:
					w.Partition(random.IntN(2) == 0)
				case 1:
					w.Order(Orders{
						Delay: time.Duration(random.IntN(20)) * time.Millisecond, Jitter: time.Duration(random.IntN(40)) * time.Millisecond,
						Coalesce: random.IntN(2) == 0,
					})
				case 2:
					_ = pause(t.Context(), time.Duration(random.IntN(10))*time.Millisecond)
				}
			}
			w.Partition(false)
			w.settle()
			if w.last() > ops {
				t.Errorf("%d writes were seen, and %d made", w.last(), ops)
			}
		})
	}
}

// The last writer wins, of puts and deletes, whichever arrives first; each
// region's own is overwritten or kept.
func TestLastWriterWins(t *testing.T) {
	t.Parallel()
	w := start(t, regions(t, "eu-west-1", "us-east-1"))
	for _, key := range []string{"put", "delete", "again"} {
		w.put(0, key, "first")
	}
	w.settle()
	w.Partition(true)
	before := w.last()
	w.put(1, "put", "second")
	w.put(0, "delete", "second")
	w.put(1, "again", "")
	w.stamped(before + 3)
	w.put(0, "put", "third")
	w.put(1, "delete", "")
	w.put(0, "again", "third")
	w.stamped(before + 6)
	if got := w.values(1)["put"]; got != "second" {
		t.Errorf("a write came through a partition: %s", got)
	}
	if n := w.InFlight(); n != 3 {
		t.Errorf("%d items are on their way", n)
	}
	if err := w.Settle(t.Context()); err == nil {
		t.Error("regions that are cut off have settled")
	}
	w.Partition(false)
	w.settle()
	w.want(map[string]string{"put": "third", "again": "third"})
}

// Items overtake each other, an item its former self never; without Coalesce
// each of its states arrives.
func TestOrders(t *testing.T) {
	t.Parallel()
	w := start(t, regions(t, "eu-west-1", "us-east-1"))
	w.Order(Orders{Delay: 10 * time.Millisecond, Jitter: 200 * time.Millisecond})
	const keys = 8
	for i := range keys {
		for _, value := range []string{"a", "b", "c"} {
			w.put(0, fmt.Sprint(i), value)
		}
	}
	w.settle()
	arrivals := arrived(t, w.regions[1])
	states, order := map[string]string{}, ""
	for _, a := range arrivals {
		states[a[0]] += a[1]
		if len(states[a[0]]) == 1 {
			order += a[0]
		}
	}
	for key, got := range states {
		if got != "abc" {
			t.Errorf("item %s arrived as %s", key, got)
		}
	}
	if len(states) != keys || order == "01234567" {
		t.Errorf("%d items arrived, in the order %s", len(states), order)
	}

	w.Order(Orders{Delay: 200 * time.Millisecond, Coalesce: true})
	began := time.Now()
	for _, value := range []string{"d", "e", "f"} {
		w.put(0, "0", value)
	}
	w.settle()
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it arrived after %v", took)
	}
	if all := arrived(t, w.regions[1]); len(all) >= len(arrivals)+3 || all[len(all)-1][1] != "f" {
		t.Errorf("%d states arrived, the last as %v", len(all)-len(arrivals), all[len(all)-1])
	}
}

// arrived are the keys and values that were written to a region, in order.
func arrived(t *testing.T, one *region) (all [][2]string) {
	t.Helper()
	s := &stream{db: one.db, api: one.streams[0].api, table: table, arn: one.streams[0].arn, shards: map[string]*shard{}}
	if err := s.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	for found := true; found; {
		var err error
		found, err = s.poll(t.Context(), func(r streamtypes.Record) error {
			item, err := fromStream(r.Dynamodb.NewImage)
			f := dynamo.Read(item)
			all = append(all, [2]string{f.String("pk"), f.String("value")})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// What is there when a replicator begins, or begins again, is brought in line.
func TestAdopts(t *testing.T) {
	t.Parallel()
	cfg := regions(t, "eu-west-1", "us-east-1")
	first, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	put(t, first.regions[0], "both", "one")
	put(t, first.regions[1], "both", "two")
	put(t, first.regions[1], "second", "two")
	w := start(t, cfg)
	w.want(map[string]string{"both": "one", "second": "two"})
	w.stop()
	put(t, first.regions[0], "later", "one")
	start(t, cfg).want(map[string]string{"both": "one", "second": "two", "later": "one"})
}

func TestRefusesConfig(t *testing.T) {
	one := dynamo.Config{Region: "eu-west-1", Credentials: server.Account().Config("eu-west-1").Credentials}
	for name, c := range map[string]Config{
		"one region": {Regions: []dynamo.Config{one}, Tables: []string{table}}, "a region twice": {Regions: []dynamo.Config{one, one}, Tables: []string{table}},
		"no tables": {Regions: []dynamo.Config{one, {Region: "us-east-1", Credentials: one.Credentials}}},
		"no name":   {Regions: []dynamo.Config{one, {Credentials: one.Credentials}}, Tables: []string{table}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A table is read although calls have no answer.
func TestTablesAreReadThroughFaults(t *testing.T) {
	t.Parallel()
	cfg := regions(t, "eu-west-1", "us-east-1")
	faults := dynamolocal.NewFaults()
	cfg.Regions[1].Transport = faults
	faults.Once("Scan", dynamolocal.Lost)
	w := start(t, cfg)
	w.put(0, "key", "value")
	for _, fault := range []dynamolocal.Fault{dynamolocal.Lost, dynamolocal.Broken} {
		faults.Once("Scan", fault)
		w.settle()
	}
	w.want(map[string]string{"key": "value"})
}

// What is written now and then, while tables are read, does not make regions
// that are the same differ.
func TestSettlesBesideHeartbeats(t *testing.T) {
	t.Parallel()
	cfg := regions(t, "eu-west-1", "us-east-1")
	there, err := newRegion(cfg.Regions[1], cfg.Tables)
	if err != nil {
		t.Fatal(err)
	}
	defer there.http.CloseIdleConnections()
	faults := dynamolocal.NewFaults()
	cfg.Regions[1].Transport = faults
	w := start(t, cfg)
	beats := 0
	faults.On(func(op string) dynamolocal.Fault {
		if op == "Scan" { // the first region was read
			beats++
			put(t, there, "beat", fmt.Sprint("value", beats))
		}
		return dynamolocal.None
	})
	w.settle()
	faults.On(nil)
	w.want(map[string]string{"beat": "value1"})
}
