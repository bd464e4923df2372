package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

type coverageFlags struct {
	bars, json bool
	svg        string
	min        float64
	without    string
}

func newCoverageCommand(a *app) *cobra.Command {
	var f coverageFlags
	cmd := &cobra.Command{
		Use:   "coverage [--bars] [--svg FILE] [--min PERCENT] [--without REGION]",
		Short: "Tell what stays readable without each region",
		Long: `Tell what stays readable without each region: how many records and tenant
secrets no other region could open if it, or its KMS, were lost now. Copies under
a key that is denied or out of reach do not count. It reads the whole table.

With --min it fails when less than PERCENT of the records stay readable without
some region; with --without when a single one would not, or a tenant secret,
without that region, which must not leave the ring then.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.min < 0 || f.min > 100 {
				return usagef("--min must be 0 to 100")
			}
			return a.coverage(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.bars, "bars", false, "draw bars instead of a table")
	flags.StringVar(&f.svg, "svg", "", "also write a picture to this file")
	flags.Float64Var(&f.min, "min", 0, "fail below this percentage")
	flags.StringVar(&f.without, "without", "", "fail if anything could not be read without this region")
	jsonFlag(cmd, &f.json)
	return cmd
}

func (a *app) coverage(ctx context.Context, f coverageFlags) error {
	answer, err := call(ctx, a, func(ctx context.Context, c *client.Client) (client.CoverageResponse, error) {
		return c.Coverage(ctx)
	})
	if err != nil {
		return err
	}
	switch {
	case f.json:
		err = printJSON(a.stdout, answer)
	case f.bars:
		_, err = a.stdout.Write(coverageBars(answer))
	default:
		err = a.printCoverage(answer)
	}
	if err == nil && f.svg != "" {
		err = os.WriteFile(filepath.Clean(f.svg), coverageSVG(answer), 0o600)
	}
	if err != nil {
		return err
	}
	if f.without != "" {
		if err := needs(answer, f.without); err != nil {
			return err
		}
	}
	for _, r := range answer.Regions {
		if got := stays(answer, r); got < f.min || (f.min > 0 && r.SecretsUnreadableIfLost > 0) {
			return fmt.Errorf("without %s only %s %% of the records would stay readable, and %s of %s tenant secrets: less than --min %s",
				printable(r.Name), percent(got), bulk.Count(answer.TenantSecrets-r.SecretsUnreadableIfLost), bulk.Count(answer.TenantSecrets),
				strconv.FormatFloat(f.min, 'f', -1, 64))
		}
	}
	return nil
}

// needs fails when a region cannot be done without.
func needs(c client.CoverageResponse, region string) error {
	i := slices.IndexFunc(c.Regions, func(r client.RegionCoverage) bool { return r.Name == region })
	if i < 0 {
		return usagef("--without names no region of the key ring")
	}
	if r := c.Regions[i]; r.UnreadableIfLost > 0 || r.SecretsUnreadableIfLost > 0 {
		return fmt.Errorf("without %s nobody could open %s records and %s tenant secrets: it must not leave the key ring before they are repaired",
			printable(region), bulk.Count(r.UnreadableIfLost), bulk.Count(r.SecretsUnreadableIfLost))
	}
	return nil
}

// stays is the percentage of records that stays readable without the region;
// of none, all do.
func stays(c client.CoverageResponse, r client.RegionCoverage) float64 {
	if c.Records == 0 {
		return 100
	}
	return 100 * float64(c.Records-r.UnreadableIfLost) / float64(c.Records)
}

// percent never rounds what is missing away: 100 means all.
func percent(p float64) string {
	text := strconv.FormatFloat(p, 'f', 2, 64)
	if text == "100.00" && p < 100 {
		return "99.99"
	}
	return strings.TrimSuffix(text, ".00")
}

func (a *app) printCoverage(c client.CoverageResponse) error {
	t := new(table)
	t.add("WITHOUT", "KMS", "STAYS READABLE", "UNREADABLE", "TENANT SECRETS LOST", "LACKS COPIES", "REPLICATION LAG")
	for _, r := range c.Regions {
		t.add(r.Name, string(r.Kms), percent(stays(c, r))+" %", bulk.Count(r.UnreadableIfLost), bulk.Count(r.SecretsUnreadableIfLost),
			bulk.Count(r.MissingCopies), lagText(r))
	}
	if err := t.print(a.stdout); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, coverageTotals(c))
	return err
}

func coverageTotals(c client.CoverageResponse) string {
	return fmt.Sprintf("%s records, %s tenant secrets; %s degraded, %s of older key rings, %s unreadable now; counted %s",
		bulk.Count(c.Records), bulk.Count(c.TenantSecrets), bulk.Count(c.DegradedRecords), bulk.Count(c.OutdatedRecords), bulk.Count(c.Unreadable), stamp(c.CountedAt))
}

func lagText(r client.RegionCoverage) string {
	if r.ReplicationLagSeconds == nil {
		return ""
	}
	return time.Duration(*r.ReplicationLagSeconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

const barWidth = 40

// coverageBars draws a line a region. A bar is full only when nothing is lost.
func coverageBars(c client.CoverageResponse) []byte {
	width := 0
	for _, r := range c.Regions {
		width = max(width, len([]rune(printable(r.Name))))
	}
	var b bytes.Buffer
	for _, r := range c.Regions {
		p := stays(c, r)
		full := int(p / 100 * barWidth)
		fmt.Fprintf(&b, "without %-*s  %s%s %6s %%  %s unreadable\n", width, printable(r.Name),
			strings.Repeat("█", full), strings.Repeat("░", barWidth-full), percent(p), bulk.Count(r.UnreadableIfLost))
	}
	b.WriteString(coverageTotals(c) + "\n")
	return b.Bytes()
}

// The picture's measures, in pixels: a row a region, with its name, a bar and
// what it says.
const (
	svgWidth, svgBar, svgRow, svgHead, svgFoot = 820, 380, 52, 92, 44
	svgName, svgBarAt, svgTextAt               = 28, 196, 592
	svgThin                                    = 3 // the least that a loss is drawn
)

// coverageSVG is a picture that needs nothing else: no script, no fonts, no links.
func coverageSVG(c client.CoverageResponse) []byte {
	height := svgHead + svgRow*len(c.Regions) + svgFoot
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif" font-size="14" role="img">`+"\n",
		svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, "<title>What stays readable without each region</title>\n<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#ffffff\" stroke=\"#d8dee4\"/>\n", svgWidth, height)
	svgLine(&b, svgName, 40, `font-size="19" font-weight="600" fill="#1f2328"`, "What stays readable without each region")
	svgLine(&b, svgName, 63, `font-size="12" fill="#59636e"`, fmt.Sprintf("%s records, %s tenant secrets, key ring %d, counted %s",
		bulk.Count(c.Records), bulk.Count(c.TenantSecrets), c.RingEpoch, stamp(c.CountedAt)))
	for i, r := range c.Regions {
		svgRegion(&b, svgHead+svgRow*i, c, r)
	}
	svgLine(&b, svgName, height-20, `font-size="12" fill="#59636e"`, fmt.Sprintf("%s degraded, %s of older key rings, %s unreadable now",
		bulk.Count(c.DegradedRecords), bulk.Count(c.OutdatedRecords), bulk.Count(c.Unreadable)))
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// svgRegion draws a row: green stays, red is lost and never too thin to see.
func svgRegion(b *bytes.Buffer, y int, c client.CoverageResponse, r client.RegionCoverage) {
	p := stays(c, r)
	green, color := p/100*svgBar, "#1a7f37"
	if r.UnreadableIfLost > 0 {
		green, color = min(green, svgBar-svgThin), "#cf222e"
	}
	state := "KMS " + string(r.Kms)
	if lag := lagText(r); lag != "" {
		state += ", lag " + lag
	}
	lost := bulk.Count(r.UnreadableIfLost) + " records lost"
	if r.SecretsUnreadableIfLost > 0 {
		lost += ", " + bulk.Count(r.SecretsUnreadableIfLost) + " of " + bulk.Count(c.TenantSecrets) + " tenant secrets"
	}
	svgLine(b, svgName, y+15, `font-weight="600" fill="#1f2328"`, r.Name)
	svgLine(b, svgName, y+32, `font-size="12" fill="#59636e"`, state)
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"24\" fill=\"#cf222e\"/>\n", svgBarAt, y+4, svgBar)
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"24\" fill=\"#2da44e\"/>\n", svgBarAt, y+4, green)
	svgLine(b, svgTextAt, y+15, `font-weight="600" fill="`+color+`"`, percent(p)+" %")
	svgLine(b, svgTextAt, y+32, `font-size="12" fill="#59636e"`, lost)
}

func svgLine(b *bytes.Buffer, x, y int, style, text string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, style, escaped(text))
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(printable(text))) // a Builder does not fail
	return b.String()
}
