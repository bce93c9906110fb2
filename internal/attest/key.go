package attest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/lemnis/lemnis/internal/secret"
)

// Names of the key that a builder makes for a project whose configuration names none, in the project's folder of secrets.
const (
	madeKey    = "signing.key" // PKCS #8
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
	_, err = os.Lstat(filepath.Join(folder, madeKey))
	if errors.Is(err, fs.ErrNotExist) {
		err = makeKey(folder)
	}
	if err != nil {
		return Signer{}, fmt.Errorf("make a signing key: %w", err)
	}
	return ProjectKey(secrets, project, madeKey)
}

func makeKey(folder string) error {
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
	return place(filepath.Join(folder, madeKey), "PRIVATE KEY", der)
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
