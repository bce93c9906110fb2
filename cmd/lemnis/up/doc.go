// Package up runs a whole installation in one process: bus, store of folds, the services of the six phases and the gateway.
//
//	stack, err := up.New(ctx, up.Options{Data: dir, HTTP: "127.0.0.1:0"})
//	err = stack.Run(ctx)   // until ctx ends; then it drains
//
// The program, the demo and the tests all run this. One process at a time has a data folder (a lock says so), and since it is
// known to have replaced the one before it, it takes over that one's leases at once, also after a kill -9.
//
// With Options.Auth everybody is asked for a token; the first one is written to admin.token in the data folder. Without it
// everybody is the principal local, and only loopback is listened on.
//
// What it does not do yet: copies of the streams (one process, one disk).
package up
