package dynamo

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// countedRows bounds CountDegraded, in multiples of its limit.
const countedRows = 4

func checkPage(p store.Page) error {
	if p.Limit < 1 {
		return fmt.Errorf("%w: a page needs a limit of at least 1", errInvalid)
	}
	return nil
}

// A cursor is its parts, joined by a byte that no key has.
const cursorSeparator = "\x00"

func encodeCursor(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, cursorSeparator)))
}

func decodeCursor(cursor string, parts int) ([]string, error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	p := strings.Split(string(b), cursorSeparator)
	if err != nil || len(p) != parts || slices.Contains(p, "") {
		return nil, fmt.Errorf("%w: not a cursor of this listing", errInvalid)
	}
	return p, nil
}

// BySubject implements store.Store, in order of record id and generation.
func (s *Store) BySubject(ctx context.Context, tenant, subject string, page store.Page) ([]store.Key, string, error) {
	l := &bySubject{page: page}
	err := checkPage(page)
	if err == nil && (!validName(tenant) || !validName(subject)) {
		err = fmt.Errorf("%w: a tenant and a subject are needed", errInvalid)
	}
	if err == nil && page.After != "" {
		err = l.resume(page.After)
	}
	if err == nil {
		q := dynamo.Query{
			Table: s.table, Index: "by-subject", Where: "subject = :s",
			Values: dynamo.Item{":s": dynamo.String(tenant + "#" + subject)},
		}
		if l.afterPK != "" {
			q.Where += " AND pk >= :pk"
			q.Values[":pk"] = dynamo.String(l.afterPK)
		}
		err = s.db.Query(ctx, q, l.add)
	}
	if err != nil {
		return nil, "", fault("list by subject", err)
	}
	l.flush()
	return l.keys, l.next, nil
}

// bySubject gathers a page. The rows of a record id are neighbours, but not in
// order of generation, and a generation may come twice, as R and as L.
type bySubject struct {
	page            store.Page
	afterPK         string
	afterGeneration int64 // within afterPK

	group []store.Key // of one record id
	keys  []store.Key
	next  string
}

func (l *bySubject) resume(cursor string) error {
	p, err := decodeCursor(cursor, 2)
	if err != nil {
		return err
	}
	l.afterPK = p[0]
	if l.afterGeneration, err = strconv.ParseInt(p[1], 10, 64); err != nil {
		return fmt.Errorf("%w: not a cursor of this listing", errInvalid)
	}
	return nil
}

func (l *bySubject) add(item dynamo.Item) (more bool, err error) {
	r, err := parseRow(item)
	if err != nil {
		return false, err
	}
	if len(l.group) > 0 && (l.group[0].ID != r.ID || l.group[0].Tenant != r.Tenant) {
		l.flush()
	}
	l.group = append(l.group, r.Key)
	return l.next == "", nil
}

// flush takes a complete group over, as far as the page goes.
func (l *bySubject) flush() {
	slices.SortFunc(l.group, func(a, b store.Key) int { return cmp.Compare(a.Generation, b.Generation) })
	for _, k := range slices.Compact(l.group) {
		pk := partition(k.Tenant, k.ID)
		if pk == l.afterPK && int64(k.Generation) <= l.afterGeneration || l.next != "" {
			continue
		}
		if len(l.keys) == l.page.Limit {
			last := l.keys[len(l.keys)-1]
			l.next = encodeCursor(partition(last.Tenant, last.ID), strconv.FormatUint(uint64(last.Generation), 10))
			continue
		}
		l.keys = append(l.keys, k)
	}
	l.group = l.group[:0]
}

// Degraded implements store.Store. The index holds degraded records only, so
// it is gone through as a whole: that costs one call where there are none.
func (s *Store) Degraded(ctx context.Context, region string, page store.Page) (keys []store.Key, next string, err error) {
	if err := checkPage(page); err != nil {
		return nil, "", fault("list degraded records", err)
	}
	var from dynamo.Item
	if page.After != "" {
		p, err := decodeCursor(page.After, 3)
		if err != nil {
			return nil, "", fault("list degraded records", err)
		}
		from = dynamo.Item{attrGap: dynamo.String(p[0]), dynamo.PK: dynamo.String(p[1]), dynamo.SK: dynamo.String(p[2])}
	}
	err = s.db.ScanIndex(ctx, s.table, "by-gap", 0, from, func(item dynamo.Item) (bool, error) {
		gap, r, err := parseGap(item)
		if err != nil || !slices.Contains(gap.regions, region) {
			return err == nil, err
		}
		keys = append(keys, r.Key)
		if len(keys) == page.Limit {
			next = encodeCursor(gap.value, partition(r.Tenant, r.ID), r.sk)
		}
		return next == "", nil
	})
	if err != nil {
		return nil, "", fault("list degraded records", err)
	}
	return keys, next, nil
}

type gap struct {
	value   string
	regions []string
}

func parseGap(item dynamo.Item) (gap, row, error) {
	r, err := parseRow(item)
	if err != nil {
		return gap{}, row{}, err
	}
	f := dynamo.Read(item)
	g := gap{value: f.String(attrGap)}
	regions, _, _ := strings.Cut(g.value, "#")
	g.regions = strings.Split(regions, ",")
	return g, r, f.Err()
}

// CountDegraded implements store.Store. It reads at most four times limit rows,
// past which a region's count is what was found in them.
func (s *Store) CountDegraded(ctx context.Context, limit int) (perRegion map[string]int, total int, err error) {
	perRegion = map[string]int{}
	rows := 0
	err = s.db.ScanIndex(ctx, s.table, "by-gap", 0, nil, func(item dynamo.Item) (bool, error) {
		gap, _, err := parseGap(item)
		if err != nil {
			return false, err
		}
		rows++
		total = min(rows, limit)
		for _, region := range gap.regions {
			perRegion[region] = min(perRegion[region]+1, limit)
		}
		return rows < countedRows*limit, nil
	})
	if err != nil {
		return nil, 0, fault("count degraded records", err)
	}
	return perRegion, total, nil
}

// Expired implements store.Store for the records that the table's TTL does not remove.
func (s *Store) Expired(ctx context.Context, before int64, page store.Page) (keys []store.Key, next string, err error) {
	w, err := newWalk("by-expiry", attrExpiry, attrExpires, before, page)
	if err == nil {
		err = s.walk(ctx, w, func(_ context.Context, due []found) ([]bool, error) {
			return slices.Repeat([]bool{true}, len(due)), nil
		})
	}
	if err != nil {
		return nil, "", fault("list expired records", err)
	}
	return w.keys, w.next, nil
}
