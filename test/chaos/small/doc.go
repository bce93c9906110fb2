// Package small is what the proof runs as services: their own definitions, with small effects where theirs would build,
// push and start programs.
//
// Nothing else is replaced. Planner, monitor and feedback run as they are; of builder and deployer the decisions, the
// timers and the runtime are theirs, and an effect takes some milliseconds in which it can be killed. What an effect finds
// out follows from the event that asked for it alone, so that a second attempt finds the same: what a change is like
// stands in its title ([Kind]).
package small
