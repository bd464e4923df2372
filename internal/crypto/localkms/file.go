package localkms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"piivault/internal/secret"
)

// ErrCorrupt refuses a key file that is not exactly what this package wrote:
// the keys in it, and all that they protect, are to be restored from a copy.
var ErrCorrupt = errors.New("localkms: the key file is corrupt")

const (
	fileVersion = 1
	dirMode     = 0o700
	arnAccount  = "000000000000"
	// multiRegionPrefix starts the id of a multi-Region key.
	multiRegionPrefix = "mrk-"
	// maxKeyID is what a blob's head has room for.
	maxKeyID = 255
)

// keyFile is the file's JSON (docs/design/format.md §9).
type keyFile struct {
	Version  int       `json:"version"`
	Region   string    `json:"region"`
	Keys     []fileKey `json:"keys"`
	Checksum string    `json:"checksum"`
}

type fileKey struct {
	ARN      string `json:"arn"`
	Key      string `json:"key"`
	Disabled bool   `json:"disabled"`
}

// Open reads the key file. ErrCorrupt and fs.ErrNotExist are told apart; a
// file that others can read is refused.
func Open(c Config) (*KMS, error) {
	info, err := os.Stat(c.Path)
	if err != nil {
		return nil, fmt.Errorf("localkms: open the key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("localkms: %s can be read by others: its mode must be 0600", c.Path)
	}
	raw, err := os.ReadFile(c.Path)
	if err != nil {
		return nil, fmt.Errorf("localkms: open the key file: %w", err)
	}
	defer clear(raw)
	k := newKMS(c)
	if err := k.load(raw); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, c.Path, err)
	}
	return k, nil
}

// Create makes a key file with one key, and its directory where there is none.
// A file that is there already is fs.ErrExist, and left as it is.
func Create(c Config) (*KMS, error) {
	if _, err := os.Lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("localkms: create %s: %w", c.Path, fs.ErrExist)
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), dirMode); err != nil {
		return nil, fmt.Errorf("localkms: create the key file: %w", err)
	}
	k := newKMS(c)
	create := func() (string, error) { return k.CreateKey(false) }
	if c.FirstKey != "" {
		create = func() (string, error) { return k.CreateKeyAs(c.FirstKey) }
	}
	if _, err := create(); err != nil {
		return nil, err
	}
	return k, nil
}

func newKMS(c Config) *KMS {
	if c.Random == nil {
		c.Random = rand.Reader
	}
	return &KMS{config: c, keys: make(map[string]*masterKey)}
}

// Keys are the ARNs of all keys, sorted.
func (k *KMS) Keys() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Sorted(maps.Keys(k.keys))
}

// CreateKey adds a key and returns its ARN once the file is durable.
func (k *KMS) CreateKey(multiRegion bool) (string, error) {
	id, err := uuid.NewRandomFromReader(k.config.Random)
	if err != nil {
		return "", fmt.Errorf("localkms: create a key: %w", err)
	}
	name := id.String()
	if multiRegion {
		name = multiRegionPrefix + strings.ReplaceAll(name, "-", "")
	}
	return k.CreateKeyAs(name)
}

// CreateKeyAs is CreateKey with an id of the caller's choice, so that the ARN
// can be known before the key is there; "mrk-" starts that of a multi-Region key.
func (k *KMS) CreateKeyAs(id string) (string, error) {
	if id == "" || len(id) > maxKeyID || strings.ContainsAny(id, "/:") {
		return "", errors.New("localkms: create a key: not an id")
	}
	key, err := secret.GenerateKey(k.config.Random)
	if err != nil {
		return "", fmt.Errorf("localkms: create a key: %w", err)
	}
	return k.add(id, key)
}

// Replicate adds a replica of another region's multi-Region key and returns
// its ARN here once the file is durable.
func (k *KMS) Replicate(from *KMS, keyARN string) (string, error) {
	from.mu.RLock()
	master := from.keys[keyARN]
	from.mu.RUnlock()
	if master == nil || !strings.HasPrefix(keyID(keyARN), multiRegionPrefix) {
		return "", errors.New("localkms: not a multi-Region key of that region")
	}
	return k.add(keyID(keyARN), master.key.Clone())
}

// SetDisabled disables or enables a key, durably.
func (k *KMS) SetDisabled(keyARN string, disabled bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	master := k.keys[keyARN]
	if master == nil {
		return errors.New("localkms: no such key")
	}
	was := master.disabled
	master.disabled = disabled
	if err := k.saveLocked(); err != nil {
		master.disabled = was
		return err
	}
	return nil
}

func (k *KMS) add(id string, key secret.Key) (string, error) {
	arn := "arn:aws:kms:" + k.config.Region + ":" + arnAccount + ":key/" + id
	master, err := newMasterKey(arn, key)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[arn] != nil {
		return "", errors.New("localkms: the key is there already")
	}
	k.keys[arn] = master
	if err := k.saveLocked(); err != nil {
		delete(k.keys, arn)
		return "", err
	}
	return arn, nil
}

func newMasterKey(arn string, key secret.Key) (*masterKey, error) {
	block, err := aes.NewCipher(key.Bytes())
	if err != nil {
		return nil, fmt.Errorf("localkms: aes: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("localkms: gcm: %w", err)
	}
	return &masterKey{arn: arn, head: blobHead(arn), key: key, aead: aead}, nil
}

// keyID is what follows "key/" in an ARN.
func keyID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// load takes only what save writes. No error quotes the file: it holds keys.
func (k *KMS) load(raw []byte) error {
	var f keyFile
	if err := json.Unmarshal(raw, &f, json.RejectUnknownMembers(true)); err != nil {
		return errors.New("not the JSON of a key file")
	}
	switch {
	case f.Version != fileVersion:
		return errors.New("unknown version")
	case f.Checksum != f.sum():
		return errors.New("the checksum does not match")
	case f.Region != k.config.Region:
		return errors.New("it belongs to another region")
	case len(f.Keys) == 0:
		return errors.New("it holds no key")
	}
	for _, entry := range f.Keys {
		if err := k.loadKey(entry); err != nil {
			return err
		}
	}
	return nil
}

func (k *KMS) loadKey(entry fileKey) error {
	material, err := base64.StdEncoding.Strict().DecodeString(entry.Key)
	if err != nil {
		return errors.New("a key is not base64")
	}
	defer clear(material)
	key, err := secret.NewKey(material)
	if err != nil {
		return errors.New("a key has a wrong length")
	}
	id, ok := strings.CutPrefix(entry.ARN, "arn:aws:kms:"+k.config.Region+":"+arnAccount+":key/")
	if !ok || id == "" || len(id) > maxKeyID || k.keys[entry.ARN] != nil {
		return errors.New("an ARN is not of this region, or there twice")
	}
	master, err := newMasterKey(entry.ARN, key)
	if err != nil {
		return err
	}
	master.disabled = entry.Disabled
	k.keys[entry.ARN] = master
	return nil
}

// sum is SHA-256 over all fields but itself: it finds accidents, not attackers,
// who could read the keys anyway.
func (f keyFile) sum() string {
	b := appendField(nil, fmt.Sprint(f.Version))
	b = appendField(b, f.Region)
	for _, entry := range f.Keys {
		b = appendField(appendField(b, entry.ARN), entry.Key)
		b = appendField(b, fmt.Sprint(entry.Disabled))
	}
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// saveLocked replaces the file by one that is durable before it has the name.
func (k *KMS) saveLocked() error {
	f := keyFile{Version: fileVersion, Region: k.config.Region}
	for _, arn := range slices.Sorted(maps.Keys(k.keys)) {
		master := k.keys[arn]
		f.Keys = append(f.Keys, fileKey{ARN: arn, Key: base64.StdEncoding.EncodeToString(master.key.Bytes()), Disabled: master.disabled})
	}
	f.Checksum = f.sum()
	raw, err := json.Marshal(f, jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("localkms: encode the key file: %w", err)
	}
	defer clear(raw)
	if err := replaceFile(k.config.Path, append(raw, '\n')); err != nil {
		return fmt.Errorf("localkms: save the key file: %w", err)
	}
	return nil
}

// replaceFile writes, syncs and renames, then syncs the directory.
func replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
