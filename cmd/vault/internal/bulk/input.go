package bulk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// input is the file that is read. Only a regular one can be resumed: it has a
// size and a hash, and exactly so many bytes are read of it.
type input struct {
	file   *os.File // nil: Stdin
	stdin  io.Reader
	size   int64 // 0: not known
	sha256 string
}

func openInput(c Config) (*input, error) {
	if c.Input == "-" {
		return &input{stdin: c.Stdin}, nil
	}
	f, err := os.Open(c.Input)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory", c.Input)
	case info.Mode().IsRegular():
		return &input{file: f, size: info.Size()}, nil
	default:
		return &input{file: f, stdin: f}, nil
	}
	_ = f.Close() // was only read
	return nil, err
}

func (in *input) regular() bool { return in.stdin == nil }

func (in *input) reader() io.Reader {
	if in.regular() {
		return io.NewSectionReader(in.file, 0, in.size)
	}
	return in.stdin
}

// identify hashes the whole input: a resumption must not go on with another.
func (in *input) identify(ctx context.Context) error {
	if !in.regular() {
		return nil
	}
	h := sha256.New()
	src := io.NewSectionReader(in.file, 0, in.size)
	for {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		_, err := io.CopyN(h, src, 64<<20)
		switch {
		case errors.Is(err, io.EOF):
			in.sha256 = hex.EncodeToString(h.Sum(nil))
			return nil
		case err != nil:
			return fmt.Errorf("hash the input: %w", err)
		}
	}
}

func (in *input) close() {
	if in.file != nil {
		_ = in.file.Close() // was only read
	}
}
