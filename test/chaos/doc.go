// Package chaos proves the promise on real processes: nats-server, redis-server, the gateway and the five services, which
// are killed, stopped and woken, cut off, starved and lied to while laps of the lifecycle go round ([Load]). Afterwards a
// model that shares no code with the services walks the whole stream and says what is missing, what is there twice, and
// what has no reason to be there ([Check]).
//
// The services decide, remember and talk to the bus as they always do; only what they do in the world is small (package
// small). `make chaos` plays all faults ([Faults]) and `make soak` a steady load ([Soak]); a short form is a test of this
// package. Every chance follows from a seed, which is printed; the moments at which processes are hit follow the machine.
package chaos
