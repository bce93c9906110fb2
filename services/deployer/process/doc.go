//go:build linux

// Package process runs programs as a deployment target: each on a loopback port of its own, told to it as $PORT, in its own
// process group and with a clean environment, started again with growing pauses when it dies.
//
// # The port
//
// A port that is looked up, closed and passed on can be taken by somebody else in between. Here the supervisor keeps the port bound,
// with SO_REUSEADDR and without listening, for as long as the process lives: the kernel then gives it to nobody
// as a free port, while the program, whose runtime sets SO_REUSEADDR as nearly all do, can bind and listen on it. A program
// that does not set it fails to bind; the next attempt gives the port up just before the start. That attempt has the
// race again, so health is believed only when the process group itself listens on the port, and a lost race is tried anew.
//
// # Who ends a process whose supervisor was killed
//
// The parent-death signal (Pdeathsig) ends a program when its supervisor is killed. It is not enough alone: it reaches the program,
// not the programs that it started; it is lost when the program changes its user; and it fires when the starting
// thread ends, not the process, which is why one locked thread does all the starts. So each start is also written to a
// file before it happens, with a random token that the process and its descendants carry in their environment.
// New reads the files and ends what is left: the recorded process when pid, start time, boot and command all match, with its
// group, and every process that carries the token. A reused pid matches neither.
//
// # What it does not do yet
//
// Linux only (it reads /proc). Limits on memory and processes are looked at ten times a second, not held by the kernel (no cgroups), and
// what leaves both its group and its parents is not counted. No limit on processors, no separate user.
package process
