package natsd

import (
	"fmt"
	"strings"
)

// Local is the principal of clients without credentials.
const Local = "local"

// Names of the two accounts, and of the subjects between them on which the
// guard listens in the services' account.
const (
	servicesAccount = "LEMNIS"
	localAccount    = "LOCAL"
	wallPrefix      = "_WALL"
)

// A gate is one way through the wall: what the client publishes to, and the
// subject in the services' account that it becomes.
type gate struct {
	outside, inside string
}

func gates(principal string) []gate {
	wall := wallPrefix + "." + principal
	return []gate{
		{outside: "submit." + principal + ".>", inside: "submit." + principal + ".>"},
		{outside: "$JS.API.STREAM.INFO." + Lifecycle, inside: wall + ".stream"},
		{outside: "$JS.API.CONSUMER.CREATE." + Lifecycle + ".>", inside: wall + ".create.>"},
		{outside: "$JS.API.CONSUMER.INFO." + Lifecycle + ".*", inside: wall + ".info.*"},
		{outside: "$JS.API.CONSUMER.DELETE." + Lifecycle + ".*", inside: wall + ".delete.*"},
		// Its presence keeps the server from importing its own "$JS.API.>" into
		// the account, which would answer each request first, with an error.
		{outside: "$JS.API.INFO", inside: wall + ".account"},
	}
}

func nextSubject(consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + Lifecycle + "." + consumer
}

func ackSubject(consumer string) string { return "$JS.ACK." + Lifecycle + "." + consumer + ".>" }

// accountsConfig is the accounts' part of a nats-server configuration: the
// services with their nkey, and the user local with what it may do.
func accountsConfig(servicesPublicKey string) string {
	var exports, imports, publish []string
	for _, g := range gates(Local) {
		exports = append(exports, fmt.Sprintf(`{service: %q, accounts: [%s]}`, g.inside, localAccount))
		imports = append(imports, fmt.Sprintf(`{service: {account: %s, subject: %q}, to: %q}`, servicesAccount, g.inside, g.outside))
		allowed := g.outside
		if strings.Contains(allowed, ".CONSUMER.CREATE.") {
			allowed = strings.TrimSuffix(allowed, ">") + "*.lifecycle.>"
		}
		publish = append(publish, fmt.Sprintf("%q", allowed))
	}
	// These are only on offer: the guard imports them for one consumer after
	// the other. More than one answer may come to each.
	for _, subject := range []string{nextSubject("*"), ackSubject("*")} {
		exports = append(exports, fmt.Sprintf(`{service: %q, response_type: stream, accounts: [%s]}`, subject, localAccount))
		publish = append(publish, fmt.Sprintf("%q", subject))
	}
	exports = append(exports, fmt.Sprintf(`{stream: "lifecycle.>", accounts: [%s]}`, localAccount))
	imports = append(imports, fmt.Sprintf(`{stream: {account: %s, subject: "lifecycle.>"}}`, servicesAccount))
	return fmt.Sprintf(`
accounts {
  %[1]s {
    jetstream: enabled
    users: [{nkey: %[3]s}]
    exports: [
      %[4]s
    ]
  }
  %[2]s {
    users: [{user: %[6]s, password: "", permissions: {
      publish: {allow: [%[7]s]}
      subscribe: {allow: ["lifecycle.>", "_INBOX.>"]}
    }}]
    imports: [
      %[5]s
    ]
  }
}
no_auth_user: %[6]s
`, servicesAccount, localAccount, servicesPublicKey,
		strings.Join(exports, "\n      "), strings.Join(imports, "\n      "), Local, strings.Join(publish, ", "))
}
