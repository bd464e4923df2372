package e2e

import (
	"fmt"
	"slices"
	"testing"

	"piivault/client"
)

// G2, G3: with either region's KMS down both regions go on; records say which
// copy they lack, and get it when the KMS is back, without being asked.
func TestDevWithAKMSDown(t *testing.T) {
	p := startDev(t, t.TempDir())
	for _, down := range []string{regionA, regionB} {
		up := other(down)
		before := keep(t, p.client(regionA), item("text", "written before "+down+" went down"))
		p.fault(fmt.Sprintf(`{"region":%q,"kms":"down"}`, down))
		var list []kept
		for _, region := range []string{regionA, regionB} {
			it := item("text", "written in "+region+" without "+down)
			answer, err := p.client(region).Tokenize(t.Context(), "", client.TokenizeRequest{Items: []client.TokenizeItem{it}})
			if err != nil {
				t.Fatalf("tokenize in %s without the KMS of %s: %v", region, down, err)
			}
			if c := answer.Items[0].KeyCopies; !slices.Equal(c.Missing, []string{down}) || !slices.Equal(c.Present, []string{up}) {
				t.Errorf("%s without %s: key copies %v", region, down, c)
			}
			list = append(list, keptOf([]client.TokenizeItem{it}, answer)...)
		}
		for _, region := range []string{regionA, regionB} {
			wantValues(t, p.client(region), append(list, before...))
		}
		if r := regionsOf(t, p, up); r.DegradedRecords == 0 {
			t.Error("no degraded record is counted")
		}
		p.fault(fmt.Sprintf(`{"region":%q,"kms":"up"}`, down))
		p.repaired()
		p.fault(fmt.Sprintf(`{"region":%q,"kms":"down"}`, up)) // only the new copies open them
		wantValues(t, p.client(down), list)
		p.fault(fmt.Sprintf(`{"region":%q,"kms":"up"}`, up))
		p.repaired()
	}
	p.stop()
}

func other(region string) string {
	if region == regionA {
		return regionB
	}
	return regionA
}

func regionsOf(t *testing.T, p *process, region string) client.RegionsResponse {
	t.Helper()
	r, err := p.client(region).Regions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// repaired waits until both regions see every KMS up and no record degraded.
func (p *process) repaired() {
	p.t.Helper()
	for _, region := range []string{regionA, regionB} {
		c := p.client(region)
		eventually(p.t, region+" repaired", func() bool {
			r, err := c.Regions(p.t.Context())
			if err != nil {
				p.t.Fatal(err)
			}
			return r.DegradedRecords == 0 && !slices.ContainsFunc(r.Regions, func(i client.RegionInfo) bool { return i.Kms != client.KmsStateUp })
		})
	}
}

// G1: across a link that is down nothing is seen, and a token that names the
// other region says so; what was written arrives when the link is back, the
// erasure of it too (G9).
func TestDevWithALinkDown(t *testing.T) {
	p := startDev(t, t.TempDir())
	a, b := p.client(regionA), p.client(regionB)
	p.fault(`{"region":"eu-west-1","link":"down"}`)
	of := func(c *client.Client, text string) []kept { // without an Idempotency-Key: the token names its region
		items := []client.TokenizeItem{item("text", text)}
		answer, err := c.Tokenize(t.Context(), "", client.TokenizeRequest{Items: items})
		if err != nil {
			t.Fatal(err)
		}
		return keptOf(items, answer)
	}
	fromA, fromB := of(a, "written in A"), of(b, "written in B")
	erased := of(a, "written in A and erased there")
	if _, err := a.Erase(t.Context(), tokensOf(erased)...); err != nil {
		t.Fatal(err)
	}
	for token, c := range map[string]*client.Client{fromA[0].Token: b, fromB[0].Token: a, erased[0].Token: b} {
		_, err := c.Detokenize(t.Context(), reveal(token))
		if codeOf(err) != "not_yet_visible" {
			t.Errorf("a token of the other side of the link: %v", err)
		}
	}
	wantValues(t, a, fromA)
	wantValues(t, b, fromB)
	p.fault(`{"region":"eu-west-1","link":"up"}`)
	wantValues(t, b, fromA)
	wantValues(t, a, fromB)
	wantGone(t, b, erased[0].Token)
	eventually(t, "the record in B's own table", func() bool {
		p.fault(`{"region":"us-east-1","link":"down"}`)
		_, err := b.Detokenize(t.Context(), reveal(fromA[0].Token))
		p.fault(`{"region":"us-east-1","link":"up"}`)
		return err == nil
	})
	p.stop()
}
