// Package reach connects an operator to the bus of an installation: of a data folder, whether it runs or not, or by URL.
package reach

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/internal/natsd"
)

// Address says which installation is meant.
type Address struct {
	NATS  string         // URL; empty: that of the data folder
	Key   string         // file with the installation's key for that server; empty: none
	Data  string         // data folder
	Roots *x509.CertPool // whom to trust beside those whom the machine trusts; nil: nobody
}

// Bus is a connection with the rights of the installation's own key.
type Bus struct {
	Conn  *nats.Conn
	close []func()
}

// Close gives the connection, and a data folder that was held, back.
func (b *Bus) Close() {
	for i := len(b.close) - 1; i >= 0; i-- {
		b.close[i]()
	}
}

// patience is how long a server may take to answer.
const patience = 5 * time.Second

// Open reaches the bus. The folder of an installation that does not run is held, so that none is started on it meanwhile.
func Open(a Address) (*Bus, error) {
	if a.NATS != "" {
		var options []nats.Option
		if a.Key != "" {
			key, err := natsd.ServiceOptionsFromFile(a.Key)
			if err != nil {
				return nil, err
			}
			options = key
		}
		return dial(a, a.NATS, options)
	}
	if _, err := os.Stat(filepath.Join(a.Data, "nats")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no installation in %s; name its folder with --data, or its bus with --nats", a.Data)
	}
	b, err := Hold(a.Data)
	if !errors.Is(err, up.ErrInUse) {
		return b, err
	}
	return connect(a)
}

// Running reaches the bus of an installation that runs.
func Running(a Address) (*Bus, error) {
	if a.NATS != "" {
		return Open(a)
	}
	if _, err := os.Stat(a.Data); err != nil {
		return nil, fmt.Errorf("there is no installation in %s", a.Data)
	}
	held, err := up.Hold(a.Data)
	if err == nil {
		return nil, errors.Join(fmt.Errorf("the installation in %s does not run", a.Data), held.Close())
	}
	if !errors.Is(err, up.ErrInUse) {
		return nil, err
	}
	return connect(a)
}

// connect reaches the bus of a data folder that is in use.
func connect(a Address) (*Bus, error) {
	text, err := os.ReadFile(filepath.Join(a.Data, up.AddressFile))
	if err != nil {
		return nil, fmt.Errorf("the installation in %s is starting or stopping: %w", a.Data, err)
	}
	var at up.Addresses
	if err := json.Unmarshal(text, &at); err != nil {
		return nil, fmt.Errorf("read %s: %w", up.AddressFile, err)
	}
	key, err := natsd.ServiceOptionsFromFile(filepath.Join(a.Data, "nats", natsd.KeyFile))
	if err != nil {
		return nil, err
	}
	return dial(a, at.NATS, key)
}

func dial(a Address, url string, options []nats.Option) (*Bus, error) {
	options = append(options, nats.Name("lemnis operator"), nats.Timeout(patience), nats.MaxReconnects(10))
	if a.Roots != nil {
		options = append(options, func(o *nats.Options) error {
			o.RootCAsCB = func() (*x509.CertPool, error) { return a.Roots, nil }
			return nil
		})
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w", url, err)
	}
	return &Bus{Conn: nc, close: []func(){nc.Close}}, nil
}

// Hold runs the bus of a data folder that nobody uses, without a socket. The error is [up.ErrInUse] when somebody does.
func Hold(data string) (*Bus, error) {
	held, err := up.Hold(data)
	if err != nil {
		return nil, err
	}
	b := &Bus{close: []func(){func() { _ = held.Close() }}}
	server, err := natsd.Start(natsd.Options{Dir: filepath.Join(data, "nats")})
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("start the bus of %s: %w", data, err)
	}
	b.close = append(b.close, server.Stop)
	if b.Conn, err = server.Connect(); err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to the bus of %s: %w", data, err)
	}
	b.close = append(b.close, b.Conn.Close)
	return b, nil
}

// Vacant runs the bus of a data folder that nothing was ever kept in; undo takes away what this has made.
func Vacant(data string) (b *Bus, undo func() error, err error) {
	_, err = os.Stat(filepath.Join(data, "nats", "jetstream"))
	if err == nil {
		return nil, nil, fmt.Errorf("the target is not empty: there is an installation in %s", data)
	}
	_, missing := os.Stat(data)
	if b, err = Hold(data); err != nil {
		return nil, nil, err
	}
	return b, func() error {
		if missing != nil {
			return os.RemoveAll(data)
		}
		return os.RemoveAll(filepath.Join(data, "nats", "jetstream"))
	}, nil
}
