package authz

import "fmt"

// Limit bounds units by the hour and by the day; 0: none at all.
type Limit struct{ Hour, Day int64 }

// MaxLimit is the highest limit: sums of units stay far from overflow.
const MaxLimit = 1_000_000_000

// in is the limit of a span.
func (l Limit) in(s Span) int64 {
	if s == Hour {
		return l.Hour
	}
	return l.Day
}

// Limits bound what is learned from a vault (design §8, G5a). Each kind is
// counted apart.
type Limits struct {
	Plain   Limit // values revealed in full
	Masked  Limit // values revealed masked
	Misses  Limit // tokens that reveal nothing: unknown, erased, expired or denied
	Guesses Limit // values whose deterministic token was asked for
}

// PrincipalLimits bound one principal: reveals and guesses by type, misses and
// subjects over all types.
type PrincipalLimits struct {
	Limits
	Subjects Limit // distinct subjects of revealed values
}

// BudgetLimits are a deployment's, across all of its regions.
type BudgetLimits struct {
	// Principal bounds each principal; a key may carry its own.
	Principal PrincipalLimits
	// Tenant bounds all principals of a tenant together, over all types.
	Tenant Limits
}

// DefaultLimits let an application serve its users and stop a bulk read: a
// stolen key reveals a thousand values of a type in its first hour, and five
// thousand in a day.
func DefaultLimits() BudgetLimits {
	return BudgetLimits{
		Principal: PrincipalLimits{
			Limits: Limits{
				Plain: Limit{1_000, 5_000}, Masked: Limit{2_000, 10_000}, Misses: Limit{200, 1_000}, Guesses: Limit{10_000, 50_000},
			},
			Subjects: Limit{500, 2_500},
		},
		Tenant: Limits{
			Plain: Limit{10_000, 50_000}, Masked: Limit{20_000, 100_000}, Misses: Limit{1_000, 5_000}, Guesses: Limit{50_000, 250_000},
		},
	}
}

// Unbounded limits are as good as none: for development and measurements.
func Unbounded() BudgetLimits {
	most := Limit{MaxLimit, MaxLimit}
	all := Limits{most, most, most, most}
	return BudgetLimits{Principal: PrincipalLimits{all, most}, Tenant: all}
}

// Validate refuses a limit that is negative, absurd, or lower by the day than
// by the hour, which nobody means. The *InputError names it.
func (l BudgetLimits) Validate() error {
	if err := l.Principal.Validate(); err != nil {
		return err
	}
	return l.Tenant.validate()
}

// Validate is BudgetLimits.Validate for one principal's.
func (l PrincipalLimits) Validate() error {
	if err := l.validate(); err != nil {
		return err
	}
	return l.Subjects.validate(BudgetSubjects)
}

func (l *Limits) validate() error {
	for _, k := range []BudgetKind{BudgetPlain, BudgetMasked, BudgetMisses, BudgetGuesses} {
		if err := l.of(k).validate(k); err != nil {
			return err
		}
	}
	return nil
}

func (l Limit) validate(k BudgetKind) error {
	switch {
	case l.Hour < 0 || l.Day < 0 || l.Hour > MaxLimit || l.Day > MaxLimit:
		return &InputError{"bad_budget", fmt.Sprintf("%s: a limit is 0 to %d", k, MaxLimit)}
	case l.Day < l.Hour:
		return &InputError{"bad_budget", fmt.Sprintf("%s: the day's limit is below the hour's", k)}
	}
	return nil
}

// BudgetKind is what a budget counts.
type BudgetKind string

// The kinds of budgets.
const (
	BudgetPlain    BudgetKind = "plain"
	BudgetMasked   BudgetKind = "masked"
	BudgetMisses   BudgetKind = "misses"
	BudgetGuesses  BudgetKind = "guesses"
	BudgetSubjects BudgetKind = "subjects"
)

// of is the limit of a kind that these bound.
func (l *Limits) of(k BudgetKind) Limit {
	switch k {
	case BudgetPlain:
		return l.Plain
	case BudgetMasked:
		return l.Masked
	case BudgetMisses:
		return l.Misses
	case BudgetGuesses:
		return l.Guesses
	case BudgetSubjects: // no Limit of these
	}
	return Limit{}
}

// Share is a region's part of every limit in a ring: the Index-th of Of
// regions; a negative Index: none. No region lends from another, so that a
// partition gives nobody more.
type Share struct{ Index, Of int }

// of splits a limit so that all regions' parts add up to it.
func (s Share) of(limit int64) int64 {
	if s.Index < 0 {
		return 0
	}
	n := max(1, int64(s.Of))
	part := limit / n
	if int64(s.Index) < limit%n {
		part++
	}
	return part
}
