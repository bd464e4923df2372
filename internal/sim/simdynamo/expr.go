package simdynamo

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/dynamo"
)

// errExpression: the adapters use a part of DynamoDB's expressions, and this
// package knows that part: anything else is a bug of one of the two.
var errExpression = errors.New("simdynamo: an expression that is not known here")

// expression is a parsed condition: alternatives of terms that must all hold.
type expression [][]term

// term is one comparison or function of an attribute.
type term struct {
	op       string // = < <= > >= between begins_with attribute_not_exists
	name     string
	operands []string
}

// parser reads tokens of one expression.
type parser struct {
	tokens []string
	err    error
}

// parsed keeps expressions: there are few, and each is used all the time.
type parsed struct {
	mu    sync.Mutex // guards known
	known map[string]expression
}

func (p *parsed) parse(text string) (expression, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.known[text]; ok {
		return e, nil
	}
	e, err := parseExpression(text)
	if err != nil {
		return nil, err
	}
	if p.known == nil {
		p.known = map[string]expression{}
	}
	p.known[text] = e
	return e, nil
}

// parseExpression knows AND, which binds tighter, OR, and no parentheses but
// those of functions.
func parseExpression(text string) (expression, error) {
	r := strings.NewReplacer("(", " ( ", ")", " ) ", ",", " , ")
	p := &parser{tokens: strings.Fields(r.Replace(text))}
	var e expression
	for again := true; again; again = p.skip("OR") {
		terms := []term{p.term()}
		for p.skip("AND") {
			terms = append(terms, p.term())
		}
		e = append(e, terms)
	}
	if len(p.tokens) > 0 {
		p.err = errExpression
	}
	if p.err != nil {
		return nil, fmt.Errorf("%w: %q", p.err, text)
	}
	return e, nil
}

func (p *parser) next() string {
	if len(p.tokens) == 0 {
		p.err = errExpression
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) skip(token string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != token {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) want(token string) {
	if !p.skip(token) {
		p.err = errExpression
	}
}

func (p *parser) term() term {
	first := p.next()
	if p.skip("(") {
		t := term{op: first, name: p.next()}
		if p.skip(",") {
			t.operands = []string{p.next()}
		}
		p.want(")")
		return t
	}
	t := term{name: first, op: strings.ToLower(p.next()), operands: []string{p.next()}}
	if t.op == "between" {
		p.want("AND")
		t.operands = append(t.operands, p.next())
	}
	return t
}

// scope is what an expression's placeholders stand for.
type scope struct {
	names  map[string]string
	values dynamo.Item
}

func (s scope) name(n string) string {
	if full, ok := s.names[n]; ok {
		return full
	}
	return n
}

// holds evaluates against an item, nil for an absent row.
func (e expression) holds(item dynamo.Item, s scope) (bool, error) {
	for _, terms := range e {
		all := true
		for _, t := range terms {
			ok, err := t.holds(item, s)
			if err != nil {
				return false, err
			}
			all = all && ok
		}
		if all {
			return true, nil
		}
	}
	return false, nil
}

func (t term) holds(item dynamo.Item, s scope) (bool, error) {
	have, there := item[s.name(t.name)]
	if t.op == "attribute_not_exists" {
		return !there, nil
	}
	order := make([]int, len(t.operands))
	for i, o := range t.operands {
		v, ok := s.values[o]
		if !ok {
			return false, fmt.Errorf("%w: operand %q", errExpression, o)
		}
		if !there {
			return false, nil
		}
		if t.op == "begins_with" {
			return strings.HasPrefix(text(have), text(v)), nil
		}
		var err error
		if order[i], err = compare(have, v); err != nil {
			return false, err
		}
	}
	switch t.op {
	case "=":
		return order[0] == 0, nil
	case "<":
		return order[0] < 0, nil
	case "<=":
		return order[0] <= 0, nil
	case ">":
		return order[0] > 0, nil
	case ">=":
		return order[0] >= 0, nil
	case "between":
		return order[0] >= 0 && order[1] <= 0, nil
	}
	return false, fmt.Errorf("%w: operator %q", errExpression, t.op)
}

func text(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

// compare orders two values of one type; of two types, only equality is asked for.
func compare(a, b types.AttributeValue) (int, error) {
	switch a := a.(type) {
	case *types.AttributeValueMemberS:
		if b, ok := b.(*types.AttributeValueMemberS); ok {
			return cmp.Compare(a.Value, b.Value), nil
		}
	case *types.AttributeValueMemberB:
		if b, ok := b.(*types.AttributeValueMemberB); ok {
			return bytes.Compare(a.Value, b.Value), nil
		}
	case *types.AttributeValueMemberN:
		if b, ok := b.(*types.AttributeValueMemberN); ok {
			return compareNumbers(a.Value, b.Value)
		}
	}
	return 1, nil
}

func compareNumbers(a, b string) (int, error) {
	if a == b {
		return 0, nil
	}
	m, errM := strconv.ParseInt(a, 10, 64)
	n, errN := strconv.ParseInt(b, 10, 64)
	if errM == nil && errN == nil {
		return cmp.Compare(m, n), nil
	}
	u, errU := strconv.ParseUint(a, 10, 64)
	v, errV := strconv.ParseUint(b, 10, 64)
	if err := errors.Join(errU, errV); err != nil {
		return 0, fmt.Errorf("simdynamo: a number: %w", err)
	}
	return cmp.Compare(u, v), nil
}

// update applies "SET a = :v, b = b + :n, …" or "REMOVE a, …".
func update(item dynamo.Item, text string, s scope) error {
	verb, rest, _ := strings.Cut(text, " ")
	for part := range strings.SplitSeq(rest, ",") {
		name, operand, assigns := strings.Cut(part, "=")
		name = s.name(strings.TrimSpace(name))
		operand = strings.TrimSpace(operand)
		of, more, adds := strings.Cut(operand, " + ")
		value, known := s.values[operand]
		switch {
		case verb == "SET" && adds:
			sum, err := add(item[s.name(of)], s.values[more])
			if err != nil {
				return fmt.Errorf("%w: %q", err, text)
			}
			item[name] = sum
		case verb == "REMOVE" && !assigns:
			delete(item, name)
		case verb == "SET" && assigns && known:
			item[name] = value
		default:
			return fmt.Errorf("%w: %q", errExpression, text)
		}
	}
	return nil
}

func add(a, b types.AttributeValue) (types.AttributeValue, error) {
	x, isX := a.(*types.AttributeValueMemberN)
	y, isY := b.(*types.AttributeValueMemberN)
	if !isX || !isY {
		return nil, errExpression
	}
	m, errM := strconv.ParseInt(x.Value, 10, 64)
	n, errN := strconv.ParseInt(y.Value, 10, 64)
	if err := errors.Join(errM, errN); err != nil {
		return nil, errExpression
	}
	return dynamo.Int(m + n), nil
}
