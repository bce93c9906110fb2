package natsd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// accountOf is the account of an outside principal.
func accountOf(principal string) string {
	if principal == Local {
		return localAccount
	}
	return "P_" + principal
}

// outsider is a principal as the configuration needs it.
type outsider struct {
	name   string
	reads  []string // projects; AnyProject
	keys   []string // none: whoever comes without credentials
	opened []string // consumers that it has made: the way to their messages is open
}

// facts are the subjects of the facts that it may read.
func (o outsider) facts() []string {
	if slices.Contains(o.reads, AnyProject) {
		return []string{"lifecycle.>"}
	}
	var subjects []string
	for _, project := range o.reads {
		subjects = append(subjects, "lifecycle."+project+".>")
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// serviceUser is a service's user: one key of a service.
type serviceUser struct {
	name string // empty: the installation's own key, which may do all
	key  string
}

// users are the services' users and the outsiders of a keyring at a time.
func (k Keyring) users(now time.Time) (services []serviceUser, outsiders []outsider) {
	for _, e := range k.Entries {
		keys := e.valid(now)
		switch {
		case !e.Service:
			outsiders = append(outsiders, outsider{name: e.Name, reads: e.Reads, keys: keys})
		default:
			for _, key := range keys {
				services = append(services, serviceUser{e.Name, key})
			}
		}
	}
	return services, outsiders
}

// accountsConfig is the accounts' part of a nats-server configuration: the
// services' users in one account, and one account for each outsider, which
// reaches the first through its gates only.
func accountsConfig(services []serviceUser, outsiders []outsider) string {
	var b strings.Builder
	var accounts, anonymous []string
	exports := map[string][]string{} // of facts: subject to accounts
	var gateExports []string
	for _, o := range outsiders {
		account := accountOf(o.name)
		accounts = append(accounts, account)
		for _, g := range gates(o.name) {
			gateExports = append(gateExports, fmt.Sprintf("{service: %q, accounts: [%q]}", g.inside, account))
		}
		for _, subject := range o.facts() {
			exports[subject] = append(exports[subject], account)
		}
	}
	b.WriteString("accounts {\n")
	fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n    users: [\n", servicesAccount)
	for _, s := range services {
		if s.name == "" {
			fmt.Fprintf(&b, "      {nkey: %s}\n", s.key)
			continue
		}
		p := permissionsOf(s.name)
		fmt.Fprintf(&b, "      {nkey: %s, permissions: {publish: {allow: %s, deny: %s}, subscribe: {allow: %s}}} # %s\n",
			s.key, list(p.publish), list(p.deny), list(p.subscribe), s.name)
	}
	b.WriteString("    ]\n    exports: [\n")
	for _, line := range gateExports {
		fmt.Fprintf(&b, "      %s\n", line)
	}
	if len(accounts) > 0 {
		// These are only on offer: the guard imports them for one consumer after
		// the other. More than one answer may come to each.
		for _, subject := range []string{nextSubject("*"), ackSubject("*")} {
			fmt.Fprintf(&b, "      {service: %q, response_type: stream, accounts: %s}\n", subject, list(accounts))
		}
	}
	for _, subject := range sortedKeys(exports) {
		fmt.Fprintf(&b, "      {stream: %q, accounts: %s}\n", subject, list(exports[subject]))
	}
	b.WriteString("    ]\n  }\n")
	for _, o := range outsiders {
		outsideAccount(&b, o)
		if len(o.keys) == 0 && o.name == Local {
			anonymous = append(anonymous, o.name)
		}
	}
	b.WriteString("}\n")
	for _, name := range anonymous {
		fmt.Fprintf(&b, "no_auth_user: %s\n", name)
	}
	return b.String()
}

// granted are the subjects that it may publish and subscribe to.
func (o outsider) granted() (publish, subscribe []string) {
	facts := o.facts()
	for _, g := range gates(o.name) {
		if !strings.Contains(g.outside, ".CONSUMER.CREATE.") {
			publish = append(publish, g.outside)
			continue
		}
		for _, subject := range facts {
			publish = append(publish, strings.TrimSuffix(g.outside, ">")+"*."+subject)
		}
	}
	publish = append(publish, nextSubject("*"), ackSubject("*"))
	return publish, append(facts, "_INBOX.>")
}

func outsideAccount(b *strings.Builder, o outsider) {
	facts := o.facts()
	publish, subscribe := o.granted()
	may := fmt.Sprintf("permissions: {publish: {allow: %s}, subscribe: {allow: %s}}", list(publish), list(subscribe))
	fmt.Fprintf(b, "  %q {\n    users: [\n", accountOf(o.name))
	if len(o.keys) == 0 && o.name == Local {
		fmt.Fprintf(b, "      {user: %s, password: \"\", %s}\n", Local, may)
	}
	for _, key := range o.keys {
		fmt.Fprintf(b, "      {nkey: %s, %s}\n", key, may)
	}
	b.WriteString("    ]\n    imports: [\n")
	for _, g := range gates(o.name) {
		fmt.Fprintf(b, "      {service: {account: %s, subject: %q}, to: %q}\n", servicesAccount, g.inside, g.outside)
	}
	for _, name := range o.opened {
		for _, subject := range []string{nextSubject(name), ackSubject(name)} {
			fmt.Fprintf(b, "      {service: {account: %s, subject: %q}, to: %q}\n", servicesAccount, subject, subject)
		}
	}
	for _, subject := range facts {
		fmt.Fprintf(b, "      {stream: {account: %s, subject: %q}}\n", servicesAccount, subject)
	}
	b.WriteString("    ]\n  }\n")
}

func list(subjects []string) string {
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ServerConfig is the accounts' part of the configuration of a nats-server that
// is not embedded, for a keyring as of a time. servicesKey is the public key of
// the installation's own user, which may do all; empty: there is none.
//
// Such a server has no guard, so that outsiders get what needs none: their
// inbox, and facts as they happen. Consumers are not open to them.
func ServerConfig(k Keyring, servicesKey string, now time.Time) (string, error) {
	if err := k.check(); err != nil {
		return "", err
	}
	services, outsiders := k.users(now)
	if servicesKey != "" {
		services = append([]serviceUser{{key: servicesKey}}, services...)
	}
	if len(services) == 0 {
		return "", fmt.Errorf("there is no key of a service: make one for each, or run the server of this folder once")
	}
	return "# Accounts of Lemnis. Include it, and reload the server when it has changed:\n#   include lemnis-accounts.conf\n#   nats-server --signal reload\n" +
		accountsConfig(services, outsiders), nil
}
