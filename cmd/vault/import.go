package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/rows"
)

const (
	maxTokenizeBatch = 500
	// maxTokenizeBytes of values fit the vault's 8 MiB even if every byte is
	// sent as an escape of six.
	maxTokenizeBytes = 1 << 20
)

// Codes of rows that are refused here, before anything is sent.
const (
	codeNotString      = "not_a_string"    // values are strings
	codeMissingSubject = "missing_subject" // --subject asks for one
)

// mapping says what a field holds.
type mapping struct{ field, typ, country string }

// parseMapping reads FIELD=TYPE[:COUNTRY_FIELD]; the last = counts.
func parseMapping(text string) (mapping, error) {
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return mapping{}, usagef("--map must be FIELD=TYPE or FIELD=TYPE:COUNTRY_FIELD, with commas between")
	}
	m := mapping{field: text[:i]}
	var hasCountry bool
	m.typ, m.country, hasCountry = strings.Cut(text[i+1:], ":")
	if m.field == "" || m.typ == "" || hasCountry && m.country == "" {
		return mapping{}, usagef("--map: a field, type or country field is empty")
	}
	return m, nil
}

func parseMappings(texts []string) ([]mapping, error) {
	var list []mapping
	for _, text := range texts {
		m, err := parseMapping(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o mapping) bool { return o.field == m.field }) {
			return nil, usagef("--map names the field %q twice", m.field)
		}
		list = append(list, m)
	}
	if len(list) == 0 || len(list) > maxTokenizeBatch {
		return nil, usagef("--map must name from 1 to %d fields", maxTokenizeBatch)
	}
	return list, nil
}

func newImportCommand(a *app) *cobra.Command {
	var flags transferFlags
	var maps []string
	var subject string
	cmd := &cobra.Command{
		Use:   "import FILE --map FIELD=TYPE[:COUNTRY_FIELD],… [--subject FIELD] [--out FILE]",
		Short: "Replace fields of a JSONL or CSV file by tokens",
		Long: "Replace fields of a JSONL or CSV file by tokens.\n" + transferHelp + `

Values must be strings. --subject names the field with the id of the person,
which the vault needs to erase by person; a row without one is refused. It may
be a JSON number, which then stands for its digits as written. A resumed run
gives every row the tokens that its first attempt gave it, so none is double.

  vault import people.jsonl --map email=email,phone=phone:country,iban=iban \
      --subject customer_id --out tokens.jsonl`,
		Args: oneArgument("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mappings, err := parseMappings(maps)
			if err != nil {
				return err
			}
			format, err := flags.check(args[0], maxTokenizeBatch)
			if err != nil {
				return err
			}
			t := newImport(mappings, subject)
			t.flags, t.job.Input, t.job.Format = flags, args[0], format
			t.job.Plan["--map"] = strings.Join(maps, ",")
			return a.transfer(cmd.Context(), t)
		},
	}
	flags.register(cmd, maxTokenizeBatch)
	cmd.Flags().StringSliceVar(&maps, "map", nil, "fields and their types")
	cmd.Flags().StringVar(&subject, "subject", "", "field with the id of the person")
	return cmd
}

func newImport(mappings []mapping, subject string) transfer {
	p := newPicker(mappings, subject)
	return transfer{
		verb:   "tokenized",
		wanted: len(mappings),
		job: bulk.Config{
			Fields:   p.fields,
			Plan:     map[string]string{"command": "import", "--subject": subject},
			Pick:     p.pick,
			MaxBytes: maxTokenizeBytes,
		},
		exchange: tokenizeBatch,
		preflight: func(types client.TypesResponse) error {
			for _, m := range mappings {
				if !slices.ContainsFunc(types.Types, func(t client.TypeInfo) bool { return t.Name == m.typ }) {
					return usagef("the vault has no type %q: see vault types", m.typ)
				}
			}
			return nil
		},
	}
}

// picker makes items of a row's mapped fields, in the order of --map.
type picker struct {
	fields  []string // the mapped ones first
	maps    []mapping
	country []int // index in fields of each mapping's country field, or -1
	subject int   // likewise
}

func newPicker(maps []mapping, subject string) *picker {
	p := &picker{maps: maps, subject: -1}
	for _, m := range maps {
		p.fields = append(p.fields, m.field)
	}
	for _, m := range maps {
		p.country = append(p.country, p.index(m.country))
	}
	p.subject = p.index(subject)
	return p
}

func (p *picker) index(field string) int {
	if field == "" {
		return -1
	}
	i := slices.Index(p.fields, field)
	if i < 0 {
		i = len(p.fields)
		p.fields = append(p.fields, field)
	}
	return i
}

func (p *picker) pick(row *rows.Row) (items []bulk.Item, refused []bulk.FieldError) {
	for i, m := range p.maps {
		value, kind := row.Field(i)
		if kind == rows.Absent {
			continue
		}
		if kind != rows.Text {
			refused = append(refused, bulk.FieldError{Field: m.field, Code: codeNotString})
			continue
		}
		item := bulk.Item{Field: i, Value: value, Type: m.typ}
		if c := p.country[i]; c >= 0 {
			var kind rows.Kind
			if item.Country, kind = row.Field(c); kind > rows.Text {
				refused = append(refused, bulk.FieldError{Field: m.country, Code: codeNotString})
			}
		}
		items = append(items, item)
	}
	if len(items) == 0 || p.subject < 0 {
		return items, refused
	}
	subject, _ := row.Field(p.subject)
	if subject == "" {
		refused = append(refused, bulk.FieldError{Field: p.fields[p.subject], Code: codeMissingSubject})
	}
	for i := range items {
		items[i].Subject = subject
	}
	return items, refused
}

func tokenizeBatch(ctx context.Context, s sender, key string, items []bulk.Item) ([]string, error) {
	req := client.TokenizeRequest{Items: make([]client.TokenizeItem, len(items))}
	for i, it := range items {
		req.Items[i] = client.TokenizeItem{Type: it.Type, Value: it.Value, Country: it.Country, SubjectID: it.Subject}
	}
	var answer client.TokenizeResponse
	err := s.patience.Do(ctx, func(ctx context.Context) (err error) {
		answer, err = s.client.Tokenize(ctx, key, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	tokens := make([]string, len(answer.Items))
	for i, it := range answer.Items {
		if it.Status != client.ItemStatusOk || int(it.Index) != i {
			return nil, client.ErrAnswer
		}
		tokens[i] = it.Token
	}
	return tokens, nil
}
