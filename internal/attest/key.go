package attest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lemnis/lemnis/internal/secret"
)

// Names of the key that a builder makes for a project whose configuration names none, in the project's folder of secrets.
const (
	MadeKey    = "signing.key" // PKCS #8
	madePublic = "signing.pub" // PKIX
)

// ProjectKey is the key that a project's artifacts are signed with: the secret of that name, or, without a name, the one that
// was made for the project; it is made when there is none. Several processes may ask at once.
func ProjectKey(secrets, project, name string) (Signer, error) {
	if name != "" {
		text, err := secret.Read(secrets, project, name)
		if err != nil {
			return Signer{}, err
		}
		return ParsePrivate([]byte(text))
	}
	if secrets == "" {
		return Signer{}, errors.New("there is no folder of secrets to keep a key in (LEMNIS_SECRETS_DIR)")
	}
	folder := filepath.Join(secrets, project)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Signer{}, fmt.Errorf("make a signing key: %w", err)
	}
	lock, err := os.Open(folder)
	if err != nil {
		return Signer{}, fmt.Errorf("make a signing key: %w", err)
	}
	defer func() { _ = lock.Close() }() // which gives the lock back
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return Signer{}, fmt.Errorf("make a signing key: %w", err)
	}
	if err := MakeKey(folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return Signer{}, fmt.Errorf("make a signing key: %w", err)
	}
	return ProjectKey(secrets, project, MadeKey)
}

// MakeKey makes an Ed25519 key in a folder: signing.key, and signing.pub, its public half. The error is fs.ErrExist when there is
// one already; two callers at once have to agree with each other.
func MakeKey(folder string) error {
	switch _, err := os.Lstat(filepath.Join(folder, MadeKey)); {
	case err == nil:
		return fmt.Errorf("%s: %w", filepath.Join(folder, MadeKey), fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	half, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	// The private one last: where it is, both are.
	if err := place(filepath.Join(folder, madePublic), "PUBLIC KEY", half); err != nil {
		return err
	}
	return place(filepath.Join(folder, MadeKey), "PRIVATE KEY", der)
}

func place(path, kind string, der []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // unless it has its name
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// KeyFile is the key that a file holds in PEM: an installation's, for the projects that name none of their own.
func KeyFile(path string) (Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Signer{}, fmt.Errorf("read the installation's signing key: %w", err)
	}
	signer, err := ParsePrivate(text)
	if err != nil {
		return Signer{}, fmt.Errorf("the installation's signing key %s: %w", path, err)
	}
	return signer, nil
}

// TrustedFile are the public keys that a file holds in PEM, one after the other: the installation's, and those of before.
func TrustedFile(path string) ([]Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the installation's trusted keys: %w", err)
	}
	var keys []Key
	for rest := text; len(keys) == 0 || len(bytes.TrimSpace(rest)) > 0; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("the installation's trusted keys %s: key %d is no PEM", path, len(keys)+1)
		}
		key, err := ParsePublic(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("the installation's trusted keys %s: key %d: %w", path, len(keys)+1, err)
		}
		keys, rest = append(keys, key), after
	}
	return keys, nil
}

// TrustedBy are the keys whose signatures count for a project: those that it names ("secret:<name>"), else the installation's, in a file
// (empty: there is none), else the one that was made for it.
func TrustedBy(secrets, project string, named []string, file string) ([]Key, error) {
	names := make([]string, len(named))
	for i, name := range named {
		names[i] = strings.TrimPrefix(name, "secret:")
	}
	if len(names) == 0 && file != "" {
		return TrustedFile(file)
	}
	return Trusted(secrets, project, names)
}

// Trusted are the keys whose signatures count for a project: those that its configuration names, which are secrets that hold
// public keys, or, without any, the one that was made for it. None is no error.
func Trusted(secrets, project string, names []string) ([]Key, error) {
	made := len(names) == 0
	if made {
		names = []string{madePublic}
	}
	var keys []Key
	for _, name := range names {
		text, err := secret.Read(secrets, project, name)
		if made && (secrets == "" || errors.Is(err, fs.ErrNotExist)) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		key, err := ParsePublic([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
