// Package proxy is the door for the users of a deployed service: a reverse proxy on loopback, one Front for each
// environment and service, that splits users between a stable and a canary version and counts what they get.
//
// # Who sees the canary
//
// A user is the header X-User, else the cookie lemnis_user, else the client's address. The user's hash, salted with the service and the
// canary's version, is a number in [0, 1); below the weight the user sees the canary. So a user keeps seeing it while the weight rises,
// also after a restart of the proxy, and each rollout picks other users. A client without either gets the
// cookie: a browser that asks for a page a random one, since many people may share its address; any other client one
// derived from its address, so that it is served the same version whether it keeps cookies or not.
//
// # What is counted
//
// For each version, in all and by feature (a path prefix): requests, errors, and the time to the response's
// headers. A request counts when its headers arrive or when it fails, so that a stream counts at its start.
// Errors are answers of 500 and above, transport failures before or within the body, and clients that gave up after
// waiting for Config.Patience; a client that leaves earlier is nobody's error.
//
// # How requests go on
//
// On the quick way (quick.go) a request that has come whole, in 4 KiB, and can be read in one way only (plain.go) is sent on in one
// piece, and so is its answer when it is of the same kind, in 16 KiB: by loops that wait for all connections at once (loop.go). What
// is not like that, or takes more than 100 ms, goes (hand.go) to net/http's server with all that was read, and the connection stays there:
// chunks, streams, upgrades, HTTP/2, expectations, larger bodies, and every head that is odd in any respect.
//
// There a request with all its headers but those of the hop goes to the upstream over a connection that waited, if it still stands, or a
// new one (upstream.go), and its answer back as it comes (forward.go): informational answers, trailers, upgrades. What an
// upstream may have begun to do is not sent again; a request without a body and without effects is, when the connection
// ended before its answer began.
//
// # When no file can be opened any more
//
// Clients that are there are served: a connection that net/http has to take over needs one number for a moment, which is kept for
// that. Those that come wait in the kernel, and the door is tried again after 5 ms, and twice as long each time up to a second. What needs
// a new connection to an upstream is answered with 502 and counted; what could not be taken over before it was any version's, with 503
// ([Snapshot.Unserved]). Both are told to the log, the door at most once a minute.
//
// # What it does not do yet
//
// TLS from users, HTTP/2 to upstreams; counts do not outlive the process (Snapshot.Since tells).
package proxy
