package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

var errAnswer = errors.New("not an HTTP/1.1 answer")

// client is one keep-alive connection that costs the machine little: on two
// cores, what the load generator burns is taken from the server. It speaks as
// much HTTP/1.1 (RFC 9112) as both servers answer with.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	head    string // the headers that do not change
	request []byte
	answer  []byte
}

func dial(ctx context.Context, s *server) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	head := " HTTP/1.1\r\nHost: " + s.addr + "\r\nContent-Type: application/json\r\nAuthorization: Bearer " + s.key + "\r\nContent-Length: "
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), head: head}, nil
}

// post sends body and returns the answer's, valid until the next call. Any
// status but 200 is an error.
func (c *client) post(path string, body []byte) ([]byte, error) {
	status, answer, err := c.exchange(path, body)
	if err == nil && status != "200" {
		err = fmt.Errorf("%s answered %s: %.300s", path, status, answer)
	}
	return answer, err
}

// exchange sends body and returns the answer whatever its status, valid until
// the next call.
func (c *client) exchange(path string, body []byte) (status string, answer []byte, err error) {
	c.request = append(c.request[:0], "POST "...)
	c.request = append(append(c.request, path...), c.head...)
	c.request = append(strconv.AppendInt(c.request, int64(len(body)), 10), "\r\n\r\n"...)
	c.request = append(c.request, body...)
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", nil, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return "", nil, err
	}
	status, length, err := c.readHead()
	if err != nil {
		return "", nil, err
	}
	c.answer, err = c.readBody(length)
	return status, c.answer, err
}

// readHead reads the status line and headers; a length of -1 means chunked.
func (c *client) readHead() (status string, length int, err error) {
	line, err := c.line()
	if err != nil {
		return "", 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return "", 0, errAnswer
	}
	status = "200"
	if !bytes.Equal(line[9:12], []byte(status)) {
		status = string(line[9:12])
	}
	for {
		if line, err = c.line(); err != nil || len(line) == 0 {
			return status, length, err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		}
		if err != nil {
			return "", 0, errAnswer
		}
	}
}

func (c *client) readBody(length int) ([]byte, error) {
	c.answer = c.answer[:0]
	if length >= 0 {
		return c.take(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return nil, errAnswer
		}
		if c.answer, err = c.take(int(size)); err != nil {
			return nil, err
		}
		if _, err := c.line(); err != nil || size == 0 {
			return c.answer, err
		}
	}
}

// take appends n bytes of the stream to the answer.
func (c *client) take(n int) ([]byte, error) {
	start := len(c.answer)
	c.answer = append(c.answer, make([]byte, n)...)
	_, err := io.ReadFull(c.in, c.answer[start:])
	return c.answer, err
}

func (c *client) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), err
}
