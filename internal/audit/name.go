package audit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// maxNamePart bounds a region's and an instance's name.
const maxNamePart = 63

// LogName names the log of one process life: region/instance/epoch. Epochs of
// an instance are consecutive and begin at 1, so a missing log shows.
type LogName struct {
	Region, Instance string
	Epoch            uint64
}

// String is the name as receipts, refs and checkpoints carry it.
func (n LogName) String() string {
	return n.Region + "/" + n.Instance + "/" + strconv.FormatUint(n.Epoch, 10)
}

// Validate reports a name that could not be parsed back.
func (n LogName) Validate() error {
	if !validPart(n.Region) || !validPart(n.Instance) || n.Epoch == 0 {
		return fmt.Errorf("log name: %w", ErrName)
	}
	return nil
}

// ParseLogName is String's strict inverse: one spelling a name.
func ParseLogName(s string) (LogName, error) {
	region, rest, _ := strings.Cut(s, "/")
	instance, digits, _ := strings.Cut(rest, "/")
	epoch, err := strconv.ParseUint(digits, 10, 64)
	n := LogName{Region: region, Instance: instance, Epoch: epoch}
	if err != nil || n.Validate() != nil || n.String() != s {
		return LogName{}, fmt.Errorf("log name: %w", ErrName)
	}
	return n, nil
}

// AppendKey appends the name in a form whose byte order is that of region,
// instance and epoch as a number, and of which none is another's prefix.
func (n LogName) AppendKey(dst []byte) []byte {
	dst = append(n.AppendInstanceKey(dst), 0)
	return binary.BigEndian.AppendUint64(dst, n.Epoch)
}

// Compare orders names as their keys do.
func (n LogName) Compare(m LogName) int {
	if n == m {
		return 0
	}
	return bytes.Compare(n.AppendKey(nil), m.AppendKey(nil))
}

// AppendInstanceKey appends what the keys of all epochs of an instance begin
// with, up to the 0x00 that ends it.
func (n LogName) AppendInstanceKey(dst []byte) []byte {
	dst = append(dst, n.Region...)
	dst = append(dst, '/')
	return append(dst, n.Instance...)
}

// CutKey parses what AppendKey wrote at the front of key.
func CutKey(key []byte) (n LogName, rest []byte, err error) {
	instance, tail, ok := strings.Cut(string(key), "\x00")
	if !ok || len(tail) < 8 {
		return LogName{}, nil, fmt.Errorf("log key: %w", ErrName)
	}
	n.Region, n.Instance, _ = strings.Cut(instance, "/")
	at := len(instance) + 1
	n.Epoch = binary.BigEndian.Uint64(key[at:])
	return n, key[at+8:], n.Validate()
}

func validPart(s string) bool {
	if s == "" || len(s) > maxNamePart {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}
