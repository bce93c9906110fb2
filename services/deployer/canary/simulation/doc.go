// Package simulation plays rollouts, minute by minute, of versions whose error rates and latencies are known, and has
// them judged by the canary test and by models of what other tools do. Counts are drawn as such (binomial and
// multinomial), not request by request. It is there for tests and for `make bench-deployer`.
//
// A minute has 6,000 requests. Latency is log-normal with a median of 100 ms and σ = 0.6, in buckets whose bounds are a
// quarter apart. A rollout is followed for two hours: what was promoted serves everybody until then, so a bad version
// that is let through is paid for. An hour of the baseline is known before it begins, unless a scenario says otherwise.
package simulation
