package natsd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// KeyFile is the name of the file in the data folder that holds the seed of
// the services' nkey.
const KeyFile = "services.nk"

// serviceInbox keeps the replies to services apart from those to others.
const serviceInbox = "_SVC"

type serviceKey struct {
	pair   nkeys.KeyPair
	public string
}

func (k serviceKey) options() []nats.Option {
	return []nats.Option{
		nats.Nkey(k.public, k.pair.Sign),
		nats.CustomInboxPrefix(serviceInbox),
	}
}

// ServiceOptionsFromFile reads the seed that Start left in a data folder, for
// a service in another process; or a service's own key, from a file that is
// named for the service, like planner.nk.
func ServiceOptionsFromFile(path string) ([]nats.Option, error) {
	k, err := readKey(path)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	if _, known := servicePhases[name]; known {
		return []nats.Option{nats.Nkey(k.public, k.pair.Sign), nats.CustomInboxPrefix(serviceInbox + "." + name)}, nil
	}
	return k.options(), nil
}

// CreateKey writes a new services.nk into each folder, the same one, as the
// members of a cluster need. It fails where one is.
func CreateKey(dirs ...string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("create the services' key: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("create the services' key: %w", err)
	}
	for _, dir := range dirs {
		if err := writeNew(filepath.Join(dir, KeyFile), append(seed, '\n')); err != nil {
			return fmt.Errorf("write the services' key: %w", err)
		}
	}
	return nil
}

func loadOrCreateKey(dir string) (serviceKey, error) {
	path := filepath.Join(dir, KeyFile)
	k, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := CreateKey(dir); err != nil {
		return serviceKey{}, err
	}
	return readKey(path)
}

func readKey(path string) (serviceKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return serviceKey{}, fmt.Errorf("services' key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return serviceKey{}, fmt.Errorf("services' key: %s can be read by others (mode %o), want 600", path, info.Mode().Perm())
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		return serviceKey{}, fmt.Errorf("services' key: %w", err)
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return serviceKey{}, fmt.Errorf("services' key in %s: %w", path, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return serviceKey{}, fmt.Errorf("services' key in %s: %w", path, err)
	}
	return serviceKey{pair: pair, public: public}, nil
}

// writeNew leaves a whole file or none, so that a crash half way does not
// leave a seed that cannot be read.
func writeNew(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), KeyFile+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, writeErr := tmp.Write(data)
	if err := errors.Join(writeErr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Link(tmp.Name(), path)
}

// InstallationKey is the public key of the installation's own user, which may do
// all: of KeyFile in a data folder. It is made where it is not there.
func InstallationKey(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("services' key: %w", err)
	}
	k, err := loadOrCreateKey(dir)
	return k.public, err
}
