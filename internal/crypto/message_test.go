package crypto

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/secret"
)

// The derivations on the stack are the standard library's.
func TestHKDFIsTheStandardLibrarys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, most int) []byte { return rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name) }
		salt, material, info := draw("salt", sha256.BlockSize), draw("material", 1000), draw("info", 1000)
		want, err := hkdf.Key(sha256.New, material, salt, string(info), secret.KeySize)
		if err != nil {
			t.Fatal(err)
		}
		if got := hkdf256(salt, material, info); !bytes.Equal(got[:], want) {
			t.Errorf("SHA-256: got %x, want %x", got, want)
		}
		want, err = hkdf.Key(sha512.New, material, salt, string(info), secret.KeySize)
		if err != nil {
			t.Fatal(err)
		}
		prk := extract512(salt, material)
		if got := expand512(prk[:], info); !bytes.Equal(got[:], want) {
			t.Errorf("SHA-512: got %x, want %x", got, want)
		}
	})
}

// craft makes an authentic message of several frames, as stock SDKs do for
// long contents; this package writes one frame only.
func craft(t *rapid.T, key secret.Key, frames [][]byte, frameLength int) []byte {
	id := bytes.Repeat([]byte{9}, messageIDSize)
	aead, commitment, err := messageKey(key, id, suiteID)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newEncryptedKey("info", []byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte{formatVersion, suiteID >> 8, suiteID & 0xff}, id...)
	b = append(wrapping{keys: []encryptedKey{k}}.append(b), contentFramed)
	b = binary.BigEndian.AppendUint32(b, uint32(frameLength))
	b = append(b, commitment[:]...)
	nonce := headerNonce()
	b = aead.Seal(b, nonce[:], nil, b)
	for i, content := range frames {
		f := frame{label: labelFrame, sequence: uint32(i + 1), length: len(content)}
		if i == len(frames)-1 {
			f.label = labelFinalFrame
			b = binary.BigEndian.AppendUint32(b, finalSequence)
		}
		nonce := frameNonce(f.sequence)
		b = append(binary.BigEndian.AppendUint32(b, f.sequence), nonce[:]...)
		if i == len(frames)-1 {
			b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
		}
		b = aead.Seal(b, nonce[:], content, frameAAD(nil, id, f))
	}
	return b
}

func TestFramesOpenInOrderOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(1, 40).Draw(t, "frame length")
		frames := make([][]byte, rapid.IntRange(1, 5).Draw(t, "frames"))
		for i := range frames {
			frames[i] = rapid.SliceOfN(rapid.Byte(), length, length).Draw(t, "content")
		}
		last := &frames[len(frames)-1]
		*last = (*last)[:rapid.IntRange(0, length).Draw(t, "last")]
		key, err := secret.NewKey(bytes.Repeat([]byte{1}, secret.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		message := craft(t, key, frames, length)
		m, err := Parse(message)
		if err != nil {
			t.Fatal(err)
		}
		content, err := m.open(key)
		if err != nil || !bytes.Equal(content, bytes.Join(frames, nil)) {
			t.Fatalf("the frames do not come out: %v", err)
		}
		if len(frames) < 3 {
			return
		}
		// The first two frames swapped.
		start, size := len(message)-len(m.body), 4+nonceSize+length+tagSize
		swapped := slicesOf(message, start, start+size, start+2*size)
		if _, err := Parse(bytes.Join([][]byte{swapped[0], swapped[2], swapped[1], swapped[3]}, nil)); !errors.Is(err, ErrMalformed) {
			t.Errorf("swapped frames: %v", err)
		}
		if _, err := Parse(bytes.Join([][]byte{swapped[0], swapped[2], swapped[3]}, nil)); !errors.Is(err, ErrMalformed) {
			t.Errorf("a frame left out: %v", err)
		}
	})
}

func slicesOf(b []byte, at ...int) (parts [][]byte) {
	from := 0
	for _, to := range append(at, len(b)) {
		parts = append(parts, b[from:to])
		from = to
	}
	return parts
}

func TestMessageSizeLimits(t *testing.T) {
	key := goldenKey(t, bytes.Repeat([]byte{1}, secret.KeySize))
	k, err := newEncryptedKey("info", []byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	w := wrapping{keys: []encryptedKey{k}}
	largest := MaxMessage - beforeWrapping - w.size() - afterWrapping - beforeContent - tagSize
	d, err := newDraft(key, w, largest, new(counter))
	if err != nil {
		t.Fatal(err)
	}
	message := d.seal()
	m, err := Parse(message)
	if err != nil || len(message) != MaxMessage {
		t.Fatalf("the largest message, %d bytes: %v", len(message), err)
	}
	if content, err := m.open(key); err != nil || len(content) != largest {
		t.Errorf("the largest message: %v", err)
	}
	if _, err := newDraft(key, w, largest+1, new(counter)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more byte: %v", err)
	}
	if _, err := Parse(append(message, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a larger message: %v", err)
	}
	for _, blob := range []int{0, maxField + 1} {
		if _, err := newEncryptedKey("info", make([]byte, blob)); err == nil {
			t.Errorf("a copy of %d bytes was accepted", blob)
		}
	}
}

func TestRandomnessThatEnds(t *testing.T) {
	key := goldenKey(t, bytes.Repeat([]byte{1}, secret.KeySize))
	if _, err := newDraft(key, wrapping{}, 10, bytes.NewReader(make([]byte, messageIDSize-1))); err == nil {
		t.Error("a message id was made of too little randomness")
	}
	v := Value{Token: secret.NewText("token"), Plaintext: secret.NewPlaintext([]byte("value"))}
	s := Sealer{random: bytes.NewReader(make([]byte, messageIDSize+saltSize-1))}
	if _, err := s.seal(v, &dataKey{key: key}); err == nil {
		t.Error("a salt was made of too little randomness")
	}
}

// FuzzParse: no input crashes the parser, and what it accepts it has understood
// to the last byte.
func FuzzParse(f *testing.F) {
	g := readGolden(f)
	f.Add([]byte(g.Message))
	f.Add([]byte(g.SDKMessage))
	for _, bad := range g.BadMessages {
		f.Add([]byte(bad.Message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		m, err := widened().parse(message)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		w := wrapping{context: m.context, keys: m.keys}
		if !bytes.Equal(w.append(nil), m.wrapping) {
			t.Error("context and copies were not understood")
		}
		rest := len(m.header) + tagSize + len(m.body) + len(m.footer)
		if rest != len(message) || (m.suite.footer == nil && len(m.footer) > 0) || len(m.keys) > MaxCopies {
			t.Error("there are bytes nobody looked at")
		}
		key := goldenKey(t, bytes.Repeat([]byte{3}, secret.KeySize))
		if _, err := m.open(key); err == nil {
			t.Error("it opens under a key that nobody used")
		}
		_, _ = m.DataKey(), m.Context()
	})
}

// FuzzInner: no structure crashes the reader, and what opens is what a seal of
// the same value writes.
func FuzzInner(f *testing.F) {
	g := readGolden(f)
	for _, v := range g.Inner {
		f.Add([]byte(v.Structure))
	}
	for _, bad := range g.BadInner {
		f.Add([]byte(bad))
	}
	p, token := Place(g.Place), secret.NewText(g.Token)
	f.Fuzz(func(t *testing.T, structure []byte) {
		value, err := openInner(bytes.Clone(structure), p, token)
		if err != nil {
			if !errors.Is(err, ErrAuthentication) {
				t.Fatal(err)
			}
			return
		}
		v := Value{Place: p, Plaintext: value}
		salt := bytes.NewReader(nil)
		if structure[1] == flagBound {
			v.Token = token
			salt = bytes.NewReader(structure[p.size():])
		}
		again := make([]byte, innerSize(p, value.Len(), !v.Token.IsZero()))
		if err := sealInner(again, v, salt); err != nil || !bytes.Equal(again, structure) {
			t.Errorf("the structure has another form: %v", err)
		}
	})
}
