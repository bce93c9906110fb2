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
// # Not done here
//
// No TLS, and no address but loopback: authentication of outside principals is
// the operator's nats-server configuration, not the embedded server's.
package natsd
