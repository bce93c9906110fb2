package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// keysFlags say where the keys are. Commands of keys work on the files of the installation, also while it runs: who may
// write there may do everything anyway, and no seed has to travel.
type keysFlags struct{ data, out string }

func (k *keysFlags) dir() (string, error) {
	if k.data == "" {
		data, err := defaultData()
		if err != nil {
			return "", err
		}
		k.data = data
	}
	return filepath.Join(k.data, "nats"), nil
}

// there is the folder of keys that are there already: one that is mistyped is not made.
func (k *keysFlags) there() (string, error) {
	dir, err := k.dir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("there is no installation in %s; name its folder with --data", k.data)
	}
	return dir, nil
}

// change changes the keyring and hands the new seed over, if there is one.
func (k *keysFlags) change(c *cobra.Command, name string, change func(*natsd.Keyring) (seed []byte, err error)) error {
	dir, err := k.dir()
	if err != nil {
		return err
	}
	var seed []byte
	err = natsd.ChangeKeyring(dir, func(ring *natsd.Keyring) error {
		var err error
		if seed, err = change(ring); err != nil || seed == nil || k.out == "" {
			return err
		}
		return writeSeed(k.out, seed) // before the key counts, or it could be lost
	})
	switch {
	case err != nil:
		return err
	case seed == nil:
	case k.out != "":
		fmt.Fprintf(c.ErrOrStderr(), "the seed of %s is in %s\n", name, k.out)
	default:
		fmt.Fprintf(c.OutOrStdout(), "%s\n", seed)
		fmt.Fprintf(c.ErrOrStderr(), "This is the seed of %s, shown this once. A running installation takes the key within two seconds.\n", name)
	}
	return nil
}

func writeSeed(file string, seed []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage("--out: %s is there already", file)
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err = f.Write(append(slices.Clone(seed), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

func newKeys() *cobra.Command {
	var k keysFlags
	c := group(&cobra.Command{
		Use: "keys", Short: "Who connects to the bus",
		Long: "Nkeys of services and of outside principals on NATS, and the key that artifacts are signed with. These commands work on the files of an installation,\nalso while it runs.",
	}, newKeyCreate(&k), newKeyList(&k), newKeyRotate(&k), newKeyRevoke(&k), newKeyExport(&k), newKeySigning())
	c.PersistentFlags().StringVar(&k.data, "data", os.Getenv("LEMNIS_DATA"), "data folder of the installation ($LEMNIS_DATA; default: lemnis in the user's cache folder)")
	return c
}

func outFlag(c *cobra.Command, k *keysFlags) {
	c.Flags().StringVar(&k.out, "out", "", "new file for the seed, mode 600; without it the seed is printed")
}

func newKeyCreate(k *keysFlags) *cobra.Command {
	var scopes []string
	c := &cobra.Command{
		Use: "create SERVICE|PRINCIPAL", Short: "Make a key; its seed is shown this once", Args: exactly("SERVICE|PRINCIPAL"),
		Long:    "Make the key of a service (" + strings.Join(natsd.Services(), ", ") + "), or of an outside principal, which may publish on submit.PRINCIPAL.> what its\nscopes let it claim, and read the facts of the projects of its read@ scopes.",
		Example: "  lemnis keys create jenkins --scope publish:integrate@shop --scope read@shop --out jenkins.nk\n  lemnis keys create planner --out planner.nk",
		RunE: func(c *cobra.Command, args []string) error {
			e := natsd.Entry{Name: args[0], Service: slices.Contains(natsd.Services(), args[0]), Scopes: scopes}
			if !e.Service {
				if err := access.CheckName(e.Name); err != nil {
					return usage("%v", err)
				}
				parsed, err := access.ParseScopes(scopes)
				if err != nil {
					return usage("--scope: %v", err)
				}
				e.Reads = access.Reads(parsed)
			} else if len(scopes) > 0 {
				return usage("a service has no scopes: its subjects are fixed")
			}
			return k.change(c, e.Name, func(ring *natsd.Keyring) ([]byte, error) { return ring.Add(e, time.Now()) })
		},
	}
	c.Flags().StringArrayVar(&scopes, "scope", nil, "what a principal may claim and read; may be given several times")
	outFlag(c, k)
	return c
}

func newKeyRotate(k *keysFlags) *cobra.Command {
	grace := "24h"
	c := &cobra.Command{
		Use: "rotate SERVICE|PRINCIPAL", Short: "Give somebody another key; the one of before stays good for a while", Args: exactly("SERVICE|PRINCIPAL"),
		RunE: func(c *cobra.Command, args []string) error {
			lasts, err := parseAge(grace)
			if err != nil {
				return usage("--grace: %v", err)
			}
			if _, err := k.there(); err != nil {
				return err
			}
			return k.change(c, args[0], func(ring *natsd.Keyring) ([]byte, error) { return ring.Rotate(args[0], lasts, time.Now()) })
		},
	}
	c.Flags().StringVar(&grace, "grace", grace, "how long the old key stays good, like 24h or 7d; 0s ends it at once")
	outFlag(c, k)
	return c
}

func newKeyRevoke(k *keysFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke SERVICE|PRINCIPAL", Short: "Take all keys of somebody away; what is connected by them is disconnected", Args: exactly("SERVICE|PRINCIPAL"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := k.there(); err != nil {
				return err
			}
			return k.change(c, args[0], func(ring *natsd.Keyring) ([]byte, error) { return nil, ring.Remove(args[0]) })
		},
	}
}

func newKeyList(k *keysFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List who has a key", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := k.there()
			if err != nil {
				return err
			}
			ring, err := natsd.ReadKeyring(dir)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tWHO\tSCOPES\tKEY\tCREATED\tGOOD UNTIL")
			for _, e := range ring.Entries {
				who := "principal"
				if e.Service {
					who = "service"
				}
				for _, key := range e.Keys {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s…\t%s\t%s\n", e.Name, who, strings.Join(e.Scopes, " "), key.Public[:8], day(&key.Created), day(key.Until))
				}
			}
			return w.Flush()
		},
	}
}

func newKeyExport(k *keysFlags) *cobra.Command {
	conf := false
	c := &cobra.Command{
		Use: "export --nats-conf", Short: "Print the accounts for a nats-server of your own", Args: exactly(),
		Long: "Print the accounts' part of the configuration of a nats-server that is not embedded. Only public keys are in it.\nIt holds the keys that are good now: export again, and reload the server, when a key was changed or its grace has ended.",
		RunE: func(c *cobra.Command, _ []string) error {
			if !conf {
				return usage("%s: say what to export: --nats-conf", c.CommandPath())
			}
			dir, err := k.there()
			if err != nil {
				return err
			}
			ring, err := natsd.ReadKeyring(dir)
			if err != nil {
				return err
			}
			installation, err := natsd.InstallationKey(dir)
			if err != nil {
				return err
			}
			text, err := natsd.ServerConfig(ring, installation, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprint(c.OutOrStdout(), text)
			return nil
		},
	}
	c.Flags().BoolVar(&conf, "nats-conf", false, "as nats-server's configuration")
	return c
}

func newKeySigning() *cobra.Command {
	folder := ""
	c := &cobra.Command{
		Use: "signing --out FOLDER", Short: "Make the key that artifacts are signed with", Args: exactly(),
		Long:    "Make an Ed25519 key: FOLDER/signing.key for the builder (LEMNIS_SIGNING_KEY_FILE), and FOLDER/signing.pub for the deployer (LEMNIS_TRUSTED_KEYS_FILE) and\nfor whoever verifies an artifact. Projects may name keys of their own.",
		Example: "  lemnis keys signing --out secrets",
		RunE: func(c *cobra.Command, _ []string) error {
			if folder == "" {
				return usage("%s: --out says where the key shall be", c.CommandPath())
			}
			err := attest.MakeKey(folder)
			if errors.Is(err, fs.ErrExist) {
				return usage("--out: %s has a signing key already", folder)
			}
			if err != nil {
				return fmt.Errorf("--out: %w", err)
			}
			fmt.Fprintf(c.ErrOrStderr(), "the key is in %s, its public half in %s\n", filepath.Join(folder, "signing.key"), filepath.Join(folder, "signing.pub"))
			return nil
		},
	}
	c.Flags().StringVar(&folder, "out", "", "folder for signing.key and signing.pub, mode 600")
	return c
}
