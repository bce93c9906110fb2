//go:build linux

// Package keeper is the front: a process that holds what users need, the proxies' listeners and the processes of the services,
// and outlives the deployer that commands it. A killed deployer costs no request; the next one attaches, reads what runs, and
// restarts nothing that is right.
//
// # Who commands it
//
// One deployer at a time, over a Unix socket in the data folder (the folder 0700, the socket 0600). Each attachment has a number,
// and a command of an earlier one is refused: what a killed deployer sent last can not undo what the next one did. The kernel
// says who is at the other end: another user is refused, and so is a process that the front runs for a service. (Processes
// of one user can not be kept from each other in the end: who may end the deployer may also pretend to be it.)
//
// # How it ends
//
// In order, when the deployer says so: requests in flight have their time, then the processes. By itself, in the same order, when
// no deployer came back for [Config.Alone], or when its folder is gone. When it is killed, its processes end with it, and the deployer
// starts another.
//
// # What it remembers
//
// Counts and routes are its own. Beside them the deployer keeps a note with each door: how far it has told the stream of the
// counts. Both are lost together, so a request is reported once over any number of deployers.
package keeper
