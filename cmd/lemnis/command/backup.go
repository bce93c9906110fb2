package command

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/internal/backup"
	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/natsd"
)

// busFlags say which installation's bus is meant.
type busFlags struct{ reach.Address }

func (b *busFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.Data, "data", os.Getenv("LEMNIS_DATA"), "data folder of the installation ($LEMNIS_DATA; default: lemnis in the user's cache folder)")
	addressVar(f, &b.NATS, "nats", os.Getenv("LEMNIS_NATS_URL"), "NATS server of an installation whose services are programs of their own ($LEMNIS_NATS_URL)")
	f.StringVar(&b.Key, "nats-key", os.Getenv("LEMNIS_NATS_KEY_FILE"), "file with that installation's own key, services.nk ($LEMNIS_NATS_KEY_FILE)")
}

// address fills in what was not said.
func (b *busFlags) address(f *flags) (reach.Address, error) {
	a := b.Address
	var err error
	if a.NATS == "" && a.Data == "" {
		if a.Data, err = defaultData(); err != nil {
			return a, err
		}
	}
	if f.access.ca != "" {
		var roots *x509.CertPool
		if roots, err = certs.Roots(f.access.ca); err != nil {
			return a, fmt.Errorf("--tls-ca: %w", err)
		}
		a.Roots = roots
	}
	return a, nil
}

func newBackup(f *flags) *cobra.Command {
	var bus busFlags
	var out, registry string
	var without bool
	c := &cobra.Command{
		Use: "backup --out FILE.tar|FOLDER", Short: "Copy all that is the truth, while it works", Args: exactly(),
		Long: "Copy streams with the positions of their consumers, tokens, subscriptions, the users' data keys and the binary repository\ninto one archive, while the installation works or while it is stopped. The archive holds secrets: keep it like one.",
		Example: "  lemnis backup --data /var/lib/lemnis --out /backup/monday.tar\n" +
			"  lemnis backup --nats nats://bus:4222 --nats-key services.nk --server https://lemnis.example.org --out /backup/monday.tar",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("%s: --out is missing; say where the archive goes", c.CommandPath())
			}
			at, err := bus.address(f)
			if err != nil {
				return err
			}
			b, err := reach.Open(at)
			if err != nil {
				return err
			}
			defer b.Close()
			from := backup.Source{Conn: b.Conn, Version: version(), Registry: registryOf(f, at, registry)}
			if without {
				from.Registry = nil
			}
			if at.NATS == "" {
				from.Keyring = filepath.Join(at.Data, "nats", natsd.KeysFile)
			}
			began := time.Now()
			m, err := backup.Create(c.Context(), from, out)
			if err != nil {
				return err
			}
			var size int64
			for _, p := range m.Parts {
				size += p.Size
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d streams up to event %d, %d files, %.1f MiB in %s\n",
				out, len(m.Streams), m.Sequence, len(m.Parts)-len(m.Streams), float64(size)/(1<<20), time.Since(began).Round(time.Millisecond))
			if !m.Registry {
				fmt.Fprintln(c.ErrOrStderr(), "The binary repository is not in it.")
			}
			return nil
		},
	}
	bus.add(c)
	c.Flags().StringVar(&out, "out", "", "the archive: a file that ends in .tar, or a folder; it may not be there yet")
	c.Flags().StringVar(&registry, "registry", "", "folder of the binary repository (default: that of the data folder; with --nats the gateway at --server is asked)")
	c.Flags().BoolVar(&without, "without-registry", false, "leave the binary repository out")
	return c
}

// registryOf says where the files of the binary repository come from.
func registryOf(f *flags, at reach.Address, folder string) func(context.Context, func(string, func(io.Writer) error) error) error {
	switch {
	case folder != "":
		return backup.RegistryFolder(folder)
	case at.NATS == "":
		return backup.RegistryFolder(filepath.Join(at.Data, "registry"))
	}
	return backup.RegistryTar(func(ctx context.Context) (io.ReadCloser, error) {
		r, err := f.client().Registry(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w; --registry names its folder, --without-registry leaves it out", err)
		}
		return r, nil
	})
}

func newRestore(f *flags) *cobra.Command {
	var bus busFlags
	var registry string
	var replicas int
	var checkOnly bool
	c := &cobra.Command{
		Use: "restore FILE.tar|FOLDER", Short: "Put a backup into an empty installation", Args: exactly("FILE"),
		Long: "Put a backup into an installation that was never started: into a data folder of `lemnis up`, or onto the bus at --nats while\nnone of its services runs. The archive is read and checked before anything is changed; what is not empty is refused.",
		Example: "  lemnis restore /backup/monday.tar --data /var/lib/lemnis\n" +
			"  lemnis restore /backup/monday.tar --nats nats://bus:4222 --nats-key services.nk --registry /var/lib/lemnis/registry",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := backup.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = a.Close() }()
			m := a.Manifest
			if checkOnly {
				fmt.Fprintf(c.OutOrStdout(), "%s is whole: %d streams up to event %d, of %s, made by %s\n", args[0], len(m.Streams), m.Sequence, m.Created.Format(time.RFC3339), m.Version)
				return nil
			}
			at, err := bus.address(f)
			if err != nil {
				return err
			}
			if at.NATS != "" && registry == "" && m.Registry {
				return usage("the backup holds a binary repository: say with --registry which folder the gateway keeps it in (LEMNIS_DATA/registry)")
			}
			if err := putBack(c.Context(), a, at, backup.Target{Registry: registry, Replicas: replicas}); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "restored: %d streams up to event %d, of %s\n", len(m.Streams), m.Sequence, m.Created.Format(time.RFC3339))
			return nil
		},
	}
	bus.add(c)
	c.Flags().StringVar(&registry, "registry", "", "with --nats: folder to restore the binary repository to")
	c.Flags().IntVar(&replicas, "replicas", 0, "replicas of each stream; 0: as in the backup in a cluster, else 1")
	c.Flags().BoolVar(&checkOnly, "check", false, "only read the archive and check that it is whole")
	return c
}

func putBack(ctx context.Context, a *backup.Archive, at reach.Address, to backup.Target) error {
	if at.NATS != "" {
		b, err := reach.Open(at)
		if err != nil {
			return err
		}
		defer b.Close()
		to.Conn = b.Conn
		return backup.Restore(ctx, a, to)
	}
	b, undo, err := reach.Vacant(at.Data)
	if err != nil {
		return err
	}
	to.Conn, to.Registry, to.Keyring = b.Conn, filepath.Join(at.Data, "registry"), filepath.Join(at.Data, "nats", natsd.KeysFile)
	err = backup.Restore(ctx, a, to)
	b.Close()
	if err != nil {
		return errors.Join(err, undo())
	}
	return nil
}
