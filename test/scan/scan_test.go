package scan_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"piivault/test/scan"
)

const canary = "Zoë.Çanary+7f3a@Example.com"

func needles() []scan.Needle { return []scan.Needle{{Name: "canary", Value: []byte(canary)}} }

// hits scans dir and returns "place encoding" of every hit, and of those in
// tables ".sst place encoding" as well.
func hits(t *testing.T, dir string) map[string]bool {
	t.Helper()
	report, err := scan.Dir(dir, needles())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.ToLower(fmt.Sprintf("%+v", report)), "anary+7f3a") {
		t.Errorf("the report quotes the needle: %+v", report)
	}
	got := make(map[string]bool)
	for _, h := range report.Hits {
		what := string(h.Place) + " " + string(h.Encoding)
		got[what] = true
		if ext := filepath.Ext(h.File); ext == ".sst" {
			got[ext+" "+what] = true
		}
	}
	return got
}

func write(t *testing.T, name string, content []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// G4: the scanner sees a canary in every encoding that it promises to see.
func TestG4CanaryIsSeenInEveryEncoding(t *testing.T) {
	upperHex := strings.ToUpper(hex.EncodeToString([]byte(canary)))
	cases := map[string]struct{ content, want string }{
		"raw":                  {canary, "bytes raw"},
		"upper case":           {strings.ToUpper(canary), "bytes case-folded"},
		"lower case":           {strings.ToLower(canary), "bytes case-folded"},
		"after half a letter":  {"\xc3" + strings.ToLower(canary), "bytes case-folded"},
		"hex":                  {hex.EncodeToString([]byte(canary)), "bytes hex"},
		"upper hex":            {upperHex, "bytes hex"},
		"hex of lower case":    {hex.EncodeToString([]byte(strings.ToLower(canary))), "bytes hex"},
		"base64 of lower case": {base64.StdEncoding.EncodeToString([]byte(strings.ToLower(canary))), "bytes base64"},
	}
	for alignment := range 3 {
		inside := []byte("\xff\xff\xff"[:alignment] + canary + "\xff\xfe")
		cases[fmt.Sprint("base64 at ", alignment)] = struct{ content, want string }{base64.StdEncoding.EncodeToString(inside), "bytes base64"}
		cases[fmt.Sprint("unpadded at ", alignment)] = struct{ content, want string }{base64.RawStdEncoding.EncodeToString(inside), "bytes base64"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := hits(t, write(t, "dump", []byte("\x00before"+c.content+"after\x00")))
			if !got[c.want] || len(got) != 1 {
				t.Errorf("got %v, want only %q", got, c.want)
			}
		})
	}
}

// The canary's base64 has no digit in which the two alphabets differ; this one's has.
func TestG4URLAlphabetIsSeen(t *testing.T) {
	value := []byte("\xfb\xff\xfe\xfb\xff\xfe???>>>")
	for alignment := range 3 {
		text := base64.RawURLEncoding.EncodeToString(append(make([]byte, alignment), value...))
		report, err := scan.Dir(write(t, "dump", []byte(text)), []scan.Needle{{Name: "n", Value: value}})
		if err != nil || len(report.Hits) != 1 || report.Hits[0].Encoding != scan.Base64URL {
			t.Errorf("alignment %d: %+v, %v", alignment, report.Hits, err)
		}
	}
}

func TestCanaryAcrossChunks(t *testing.T) {
	for _, before := range []int{1<<20 - 3, 1 << 20, 2<<20 - len(canary)/2, 3<<20 - 1} {
		content := append(bytes.Repeat([]byte{'x'}, before), canary...)
		if got := hits(t, write(t, "big", content)); !got["bytes raw"] {
			t.Errorf("missed at %d", before)
		}
	}
}

func TestFileNameIsLookedAt(t *testing.T) {
	if got := hits(t, write(t, canary, nil)); !got["file name raw"] {
		t.Errorf("got %v", got)
	}
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	if got := hits(t, write(t, "noise", noise)); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestShortNeedleIsRefused(t *testing.T) {
	if _, err := scan.New([]scan.Needle{{Name: "n", Value: []byte("short")}}); err == nil {
		t.Error("a needle that noise would match was accepted")
	}
}

// database fills a Pebble that compresses, and closes it.
func database(t *testing.T, fill func(*pebble.DB) error) (dir string) {
	t.Helper()
	dir = t.TempDir()
	options := &pebble.Options{DisableAutomaticCompactions: true, Logger: silent{}}
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	db, err := pebble.Open(filepath.Join(dir, "region", "db"), options)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, _ ...any) { panic(format) }

// compressible surrounds s so that a block holding it is stored compressed,
// the canary's own bytes too: each half was written before.
func compressible(s string) []byte {
	half := len(s) / 2
	return []byte(strings.Repeat(s[:half]+"|"+s[half:]+"|", 50) + s + strings.Repeat(" filler", 500))
}

// G4: the scanner sees a canary wherever Pebble may hide it.
func TestG4CanaryIsSeenInPebble(t *testing.T) {
	key, old := []byte("key"), pebble.NoSync
	cases := map[string]struct {
		fill         func(*pebble.DB) error
		want, absent string
	}{
		"compressed value": {func(db *pebble.DB) error {
			_ = db.Set(key, compressible(canary), old)
			return db.Flush()
		}, ".sst value raw", ".sst bytes raw"},
		"key": {func(db *pebble.DB) error {
			_ = db.Set([]byte("prefix "+canary), []byte("v"), old)
			return db.Flush()
		}, ".sst key raw", "value raw"},
		"value in the log only": {func(db *pebble.DB) error {
			return db.Set(key, []byte(canary), pebble.Sync)
		}, "value raw", "value hex"},
		"overwritten value": {func(db *pebble.DB) error {
			_ = db.Set(key, compressible(canary), old)
			_ = db.Flush()
			_ = db.Set(key, []byte("new"), old)
			return db.Flush()
		}, ".sst value raw", ".sst bytes raw"},
		"deleted value": {func(db *pebble.DB) error {
			_ = db.Set(key, compressible(canary), old)
			_ = db.Flush()
			_ = db.Delete(key, old)
			return db.Flush()
		}, ".sst value raw", ".sst bytes raw"},
		"hex in a compressed value": {func(db *pebble.DB) error {
			_ = db.Set(key, compressible(hex.EncodeToString([]byte(canary))), old)
			return db.Flush()
		}, ".sst value hex", ".sst bytes hex"},
		"none": {func(db *pebble.DB) error {
			_ = db.Set(key, compressible("harmless words"), old)
			return db.Flush()
		}, "", "value raw"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := hits(t, database(t, c.fill))
			if c.want != "" && !got[c.want] {
				t.Errorf("got %v, want %q", got, c.want)
			}
			if got[c.absent] || c.want == "" && len(got) > 0 {
				t.Errorf("got %v, which the test did not mean to plant", got)
			}
		})
	}
}

// A log is cut into 32 KiB chunks: a value across the cut is not there as raw bytes.
func TestG4CanaryAcrossLogChunks(t *testing.T) {
	dir := database(t, func(db *pebble.DB) error {
		for i := range 3000 {
			if err := db.Set(fmt.Appendf(nil, "%06d", i), []byte(canary), pebble.NoSync); err != nil {
				return err
			}
		}
		return nil
	})
	report, err := scan.Dir(dir, needles())
	if err != nil {
		t.Fatal(err)
	}
	inLog := 0
	for _, h := range report.Hits {
		if h.Place == scan.InValue && strings.HasSuffix(h.File, ".log") {
			inLog++
		}
	}
	if inLog != 3000 {
		t.Errorf("%d of 3000 values in the log were seen", inLog)
	}
}

func TestDamagedTableIsAnError(t *testing.T) {
	dir := database(t, func(db *pebble.DB) error {
		_ = db.Set([]byte("key"), compressible("harmless words"), pebble.NoSync)
		return db.Flush()
	})
	tables, _ := filepath.Glob(filepath.Join(dir, "region", "db", "*.sst"))
	if len(tables) == 0 {
		t.Fatal("no table was written")
	}
	if err := os.Truncate(tables[0], 10); err != nil {
		t.Fatal(err)
	}
	if _, err := scan.Dir(dir, needles()); err == nil {
		t.Error("a table that cannot be read was passed over")
	}
}

func BenchmarkDir(b *testing.B) {
	random := rand.NewChaCha8([32]byte{2})
	var many []scan.Needle
	for i := range 40_000 {
		v := make([]byte, 12)
		_, _ = random.Read(v)
		many = append(many, scan.Needle{Name: fmt.Sprint(i), Value: []byte("tok_dev_email_" + hex.EncodeToString(v))})
	}
	noise := make([]byte, 32<<20)
	_, _ = random.Read(noise)
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "noise"), noise, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(noise)))
	scanner, err := scan.New(many)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := scanner.Dir(dir); err != nil {
			b.Fatal(err)
		}
	}
}
