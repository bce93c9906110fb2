// Package access says who may do what at the gateway: tokens, the scopes that they carry, and how much of it in a time.
//
//	tokens, err := access.Open(ctx, js, replicas, log)
//	go tokens.Run(ctx)                              // follows changes made anywhere
//	secret, _, err := tokens.Create(ctx, access.New{Name: "jenkins", Scopes: scopes})
//	who, err := tokens.Authenticate(ctx, secret)    // no round trip for one that is known
//	err = who.May(access.Need(access.Publish, "integrate", "shop"))
//
// A token is lmn_<id>_<secret>. Its secret is 256 random bits, shown once and kept as SHA-256 only. Its name is the
// principal that claims carry.
//
// # Scopes
//
//	publish:integrate@shop   claims of a phase of a project; publish@shop is every phase
//	read@shop                events, read models and artifacts of a project
//	decide:prod@shop         approve, refuse, pause, resume, abort and request rollouts in an environment
//	admin@shop               all of a project, its configuration too
//	admin                    all, tokens too
//
// "*" stands for any phase, environment or project. No scope includes another but admin.
package access
