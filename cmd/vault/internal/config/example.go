package config

import (
	_ "embed" // the example
	"slices"
)

//go:embed example.yaml
var example []byte

// Example is a valid configuration with every key, explained.
func Example() []byte { return slices.Clone(example) }
