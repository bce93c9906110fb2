package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// KeysFile is the name of the file in the data folder that says which services
// and principals there are, and by which public keys the server knows them. No
// seed is in it.
const KeysFile = "keys.json"

// MostGrace bounds how long an old key may stay good after a rotation.
const MostGrace = 30 * 24 * time.Hour

// AnyProject stands for every project.
const AnyProject = "*"

// Keyring is what KeysFile holds.
type Keyring struct {
	Entries []Entry `json:"entries"`
}

// Entry is a service, or an outside principal.
type Entry struct {
	Name    string      `json:"name"`
	Service bool        `json:"service,omitempty"`
	Scopes  []string    `json:"scopes,omitempty"` // of a principal, as the gateway reads them: what it may claim
	Reads   []string    `json:"reads,omitempty"`  // of a principal: projects whose facts it may read
	Keys    []PublicKey `json:"keys"`             // the newest last
}

// PublicKey is one by which somebody may connect.
type PublicKey struct {
	Public  string     `json:"public"`
	Created time.Time  `json:"created"`
	Until   *time.Time `json:"until,omitempty"` // was replaced, and is good until then
}

// valid are the public keys that are good at a time.
func (e Entry) valid(now time.Time) []string {
	var keys []string
	for _, k := range e.Keys {
		if k.Until == nil || now.Before(*k.Until) {
			keys = append(keys, k.Public)
		}
	}
	return keys
}

// ReadKeyring reads the file in a server's data folder; there are no entries
// when it is not there.
func ReadKeyring(dir string) (Keyring, error) {
	text, err := os.ReadFile(filepath.Join(dir, KeysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Keyring{}, nil
	}
	if err != nil {
		return Keyring{}, fmt.Errorf("read the keys: %w", err)
	}
	var k Keyring
	if err := json.Unmarshal(text, &k); err != nil {
		return Keyring{}, fmt.Errorf("read the keys in %s: %w", filepath.Join(dir, KeysFile), err)
	}
	return k, k.check()
}

// check refuses what would not be safe in a server's configuration.
func (k Keyring) check() error {
	seen := map[string]bool{}
	for _, e := range k.Entries {
		if err := checkEntry(e); err != nil {
			return err
		}
		if seen[e.Name] {
			return fmt.Errorf("keys: %s is there twice", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

func checkEntry(e Entry) error {
	if !isToken(e.Name) {
		return fmt.Errorf("keys: the name %q has to be 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit", e.Name)
	}
	_, known := servicePhases[e.Name]
	switch {
	case e.Service && !known:
		return fmt.Errorf("keys: there is no service %q; there are %s", e.Name, strings.Join(Services(), ", "))
	case !e.Service && (known || e.Name == Local || e.Name == "effect" || strings.HasPrefix(e.Name, "effect-")): // effects' consumers begin with it
		return fmt.Errorf("keys: the name %q is reserved", e.Name)
	}
	for _, project := range e.Reads {
		if project != AnyProject && !isToken(project) {
			return fmt.Errorf("keys: %s reads %q, which is no project", e.Name, project)
		}
	}
	for _, key := range e.Keys {
		if !nkeys.IsValidPublicUserKey(key.Public) {
			return fmt.Errorf("keys: %s has a key that is no public nkey of a user", e.Name)
		}
	}
	return nil
}

func isToken(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[0] == '_' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// ChangeKeyring reads the file, lets change do its work, and puts the file in
// its place whole. Two processes do it one after the other. A running server
// follows within two seconds.
func ChangeKeyring(dir string, change func(*Keyring) error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("change the keys: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, KeysFile+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("change the keys: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("change the keys: %w", err)
	}
	k, err := ReadKeyring(dir)
	if err != nil {
		return err
	}
	if err := change(&k); err != nil {
		return err
	}
	if err := k.check(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, KeysFile)
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("change the keys: %w", err)
	}
	return os.Rename(file+".new", file)
}

// Add makes an entry with its first key, and returns the key's seed, which is
// kept nowhere.
func (k *Keyring) Add(e Entry, now time.Time) (seed []byte, err error) {
	if k.find(e.Name) != nil {
		return nil, fmt.Errorf("%s has a key already; rotate it, or revoke it first", e.Name)
	}
	seed, public, err := newUserKey()
	if err != nil {
		return nil, err
	}
	e.Keys = []PublicKey{{Public: public, Created: now.UTC()}}
	if err := checkEntry(e); err != nil {
		return nil, err
	}
	k.Entries = append(k.Entries, e)
	slices.SortFunc(k.Entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return seed, nil
}

// Rotate gives an entry another key; what it had stays good for the grace.
func (k *Keyring) Rotate(name string, grace time.Duration, now time.Time) (seed []byte, err error) {
	if grace < 0 || grace > MostGrace {
		return nil, fmt.Errorf("the grace has to be 0 to %s", MostGrace)
	}
	e := k.find(name)
	if e == nil {
		return nil, fmt.Errorf("%s has no key", name)
	}
	seed, public, err := newUserKey()
	if err != nil {
		return nil, err
	}
	until := now.Add(grace).UTC()
	kept := slices.DeleteFunc(e.Keys, func(key PublicKey) bool { return key.Until != nil && !now.Before(*key.Until) })
	for i := range kept {
		if kept[i].Until == nil || kept[i].Until.After(until) {
			kept[i].Until = &until
		}
	}
	if grace == 0 {
		kept = nil
	}
	kept = append(kept, PublicKey{Public: public, Created: now.UTC()})
	e.Keys = kept
	return seed, nil
}

// Remove takes an entry away; what is connected by its keys is disconnected.
func (k *Keyring) Remove(name string) error {
	if k.find(name) == nil {
		return fmt.Errorf("%s has no key", name)
	}
	k.Entries = slices.DeleteFunc(k.Entries, func(e Entry) bool { return e.Name == name })
	return nil
}

func (k *Keyring) find(name string) *Entry {
	for i := range k.Entries {
		if k.Entries[i].Name == name {
			return &k.Entries[i]
		}
	}
	return nil
}

func newUserKey() (seed []byte, public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	if public, err = pair.PublicKey(); err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	return seed, public, nil
}

// ServiceNameOptions are the options of a connection by a service's own key,
// as Keyring.Add and Rotate return its seed.
func ServiceNameOptions(name string, seed []byte) ([]nats.Option, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", name, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", name, err)
	}
	return []nats.Option{nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(serviceInbox + "." + name)}, nil
}

// PrincipalOptions are the options of a connection by a principal's key.
func PrincipalOptions(seed []byte) ([]nats.Option, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return []nats.Option{nats.Nkey(public, pair.Sign)}, nil
}

// PublicKeyOf is the public key of a seed.
func PublicKeyOf(seed []byte) (string, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return pair.PublicKey()
}
