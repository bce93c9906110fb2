// Package natsd runs nats-server inside the process and owns the shape of the
// streams.
//
// Start gives a server with a file store and, unless told otherwise, no socket:
//
//	srv, err := natsd.Start(natsd.Options{Dir: dir})
//	nc, err := srv.Connect()                  // a service, in process
//	js, err := jetstream.New(nc)
//	id, err := natsd.EnsureStreams(ctx, js, 1)
//
// # The wall
//
// Services and everybody else live in two accounts. A service proves a
// generated nkey (services.nk in the data folder, mode 0600) and may do all. A
// client without credentials becomes the user local of an account of its own,
// which reaches the services' account only through these imports:
//
//	submit.local.>                         publish, acknowledged by SUBMIT_local
//	lifecycle.>                            facts as they happen
//	$JS.API.STREAM.INFO.LIFECYCLE          answered by the server
//	$JS.API.STREAM.MSG.GET.LIFECYCLE       the last fact by a filter that may be read, where a replay ends
//	$JS.API.CONSUMER.*.LIFECYCLE.…, acks   answered by a guard in this package
//
// Two accounts, because permissions of one account are not enough: a server
// checks neither the reply subject of a request nor the deliver subject of a
// push consumer against the sender's permissions, so that either one carries
// bytes to a subject that the client may not publish to. Replies across
// accounts end in the asking account. The guard is needed since the subject of
// a consumer request shows neither a deliver subject nor whose consumer it is:
// it lets through pull consumers with exactly one filter under lifecycle., and
// afterwards only requests and acks for consumers that the same principal
// created. Their names either start with "local-" or have no hyphen; a
// service's named consumer must have a hyphen and another start, so that
// nobody can take its name first.
//
// Local clients share the principal, and so may overhear each other's
// _INBOX replies and touch each other's consumers.
//
// # With Auth
//
// Nobody gets in without an nkey. keys.json in the data folder says who there
// is, by public keys; the server follows the file, so that a key is added,
// replaced (both are good for a grace) or taken away without a restart, and
// without a disconnection of anybody else.
//
// Every outside principal has an account of its own behind the same wall, with
// a guard of its own: it may publish under submit.<principal>., and read the
// facts of its projects. Every service has a key with the subjects that it needs
// (permission.go). That keeps a faulty service from speaking for another; it is
// no wall against one that was taken over, since services share an account, in
// which reply and deliver subjects are not checked.
//
// A nats-server that is not embedded takes its accounts from ServerConfig. It
// has no guard, and so outsiders there have no consumers.
package natsd
