package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nats-io/nats.go/jetstream"
)

// AdminFile is the name of the file in the data folder that holds the first token's text.
const AdminFile = "admin.token"

const adminName = "admin"

// EnsureAdmin makes the token that all others are made with, and writes its text to a new file of mode 0600, unless that
// is there. Where tokens are there already it does so only for the one process that has the installation to itself
// (alone): whoever may take the file out of its data folder may also ask for a new one.
func (s *Store) EnsureAdmin(ctx context.Context, file string, alone bool) (written bool, err error) {
	if _, err := os.Stat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	_, err = s.kv.Keys(ctx)
	first := errors.Is(err, jetstream.ErrNoKeysFound)
	if err != nil && !first {
		return false, fmt.Errorf("list the tokens: %w", err)
	}
	if !first && !alone {
		return false, nil
	}
	there, err := s.Has(ctx, adminName)
	if err != nil {
		return false, err
	}
	var text string
	if there {
		text, _, err = s.Rotate(ctx, adminName, 0)
	} else {
		text, _, err = s.Create(ctx, New{Name: adminName, Scopes: []Scope{Need(Admin, "", "")}, By: "lemnis"})
	}
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, fmt.Errorf("write the first token: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	return err == nil, errors.Join(err, f.Sync(), f.Close())
}
