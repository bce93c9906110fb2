package command

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/internal/certs"
)

// accessFlags say who asks the gateway, and whom it is believed to be.
type accessFlags struct {
	file, ca string
	options  []api.Option
	known    bool // a token says who asks
}

func (a *accessFlags) add(root *cobra.Command) {
	root.PersistentFlags().StringVar(&a.file, "token-file", os.Getenv("LEMNIS_TOKEN_FILE"), "file with the token to show at the gateway ($LEMNIS_TOKEN_FILE; the token itself in $LEMNIS_TOKEN)")
	root.PersistentFlags().StringVar(&a.ca, "tls-ca", os.Getenv("LEMNIS_TLS_CA"), "certificate of the authority to trust, PEM ($LEMNIS_TLS_CA)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.read() }
}

func (a *accessFlags) read() error {
	token := os.Getenv("LEMNIS_TOKEN")
	if a.file != "" {
		text, err := os.ReadFile(a.file)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		token = string(text)
	}
	a.known = strings.TrimSpace(token) != ""
	a.options = []api.Option{api.Token(strings.TrimSpace(token))}
	if a.ca != "" {
		roots, err := certs.Roots(a.ca)
		if err != nil {
			return fmt.Errorf("--tls-ca: %w", err)
		}
		a.options = append(a.options, api.TLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	}
	return nil
}

// speaker is who a decision is by when nobody is named: whoever the token is, which the gateway knows, else the user of
// this machine.
func (a *accessFlags) speaker() string {
	if a.known {
		return ""
	}
	return me()
}

// authWanted reads a switch that may stand in the environment.
func authWanted(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "", "0", "false", "off", "no":
		return false, nil
	case "1", "true", "on", "yes":
		return true, nil
	}
	return false, usage("--auth %q is neither 1 nor 0", text)
}
