package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"

	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// entrance is how callers are known: LEMNIS_AUTH=1 asks everybody for a token, the first of which is written to admin.token
// in LEMNIS_DATA, unless LEMNIS_TOKENS_DIR holds it; LEMNIS_KEYS_DIR is the folder of keys.json, the principals on NATS; LEMNIS_TLS_CERT and LEMNIS_TLS_KEY
// are files.
type entrance struct {
	authenticate bool
	keys         string
	known        map[string]access.Identity // tokens of the installation's own programs
	pair         *certs.Pair
}

func readEntrance(getenv func(string) string) (entrance, error) {
	e := entrance{keys: getenv("LEMNIS_KEYS_DIR")}
	switch text := getenv("LEMNIS_AUTH"); text {
	case "", "0":
	case "1":
		e.authenticate = true
	default:
		return e, fmt.Errorf("LEMNIS_AUTH %q is neither 1 nor 0", text)
	}
	var err error
	if e.known, err = readTokens(getenv("LEMNIS_TOKENS_DIR")); err != nil {
		return e, err
	}
	files := certs.Files{Cert: getenv("LEMNIS_TLS_CERT"), Key: getenv("LEMNIS_TLS_KEY")}
	if !files.Given() {
		return e, nil
	}
	e.pair, err = certs.Load(files)
	return e, err
}

// client is how the program itself reaches the listener; nil without TLS.
func (e entrance) client() *tls.Config {
	if e.pair == nil {
		return nil
	}
	return e.pair.Self()
}

func (e entrance) listener(l net.Listener) net.Listener {
	if e.pair == nil {
		return l
	}
	c := e.pair.Server()
	c.NextProtos = []string{"http/1.1"}
	return tls.NewListener(l, c)
}

// lend gives the gateway what it knows its callers by.
func (e entrance) lend(ctx context.Context, host service.Host, data string, to *gateway.Options) error {
	tokens, err := access.Open(ctx, host.JS, host.Replicas, host.Log)
	if err != nil {
		return err
	}
	to.Tokens, to.Authenticate, to.Services = tokens, e.authenticate, e.known
	if !e.authenticate {
		return nil
	}
	if e.keys != "" {
		to.Principals = func() ([]access.Identity, error) {
			k, err := natsd.ReadKeyring(e.keys)
			if err != nil {
				return nil, err
			}
			return access.OfKeyring(k)
		}
	}
	if holdsAdmin(e.known) {
		return nil
	}
	file := filepath.Join(data, access.AdminFile)
	written, err := tokens.EnsureAdmin(ctx, file, false)
	if written {
		host.Log.Sugar().Infow("the first token is written", "file", file)
	}
	return err
}
