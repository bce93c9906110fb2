package main

// goal is one row of the table.
type goal struct {
	measure   string
	benchmark string // without Benchmark and the number of processors
	unit      string // as the benchmark reports it
	shown     string // unit for people
	least     bool   // the limit is the least that is asked, else what it has to stay under or at
	limit     float64
}

// goals of the first lap and of the bus. Where nothing else is said, ratios are to plain nats.go doing the same with the same check, in the same run.
var goals = []goal{
	{"decide throughput, embedded", "Decide/throughput/embedded", "ratio", "of plain", true, 0.7},
	{"decide throughput, loopback", "Decide/throughput/loopback", "ratio", "of plain", true, 0.75},
	{"phase trigger p50, embedded", "Decide/latency/embedded", "p50-ratio", "times plain", false, 1.3},
	{"phase trigger p99, embedded", "Decide/latency/embedded", "p99-ratio", "times plain", false, 3},
	{"phase trigger p50, loopback", "Decide/latency/loopback", "p50-ratio", "times plain", false, 1.3},
	{"phase trigger p99, loopback", "Decide/latency/loopback", "p99-ratio", "times plain", false, 2},
	{"throughput against Watermill in order, embedded", "Watermill/embedded", "ratio", "times Watermill", true, 2},
	{"throughput against Watermill in order, loopback", "Watermill/loopback", "ratio", "times Watermill", true, 2},
	{"the same, Watermill in no order, embedded", "Watermill/embedded", "unordered-ratio", "times Watermill", true, 2},
	{"the same, Watermill in no order, loopback", "Watermill/loopback", "unordered-ratio", "times Watermill", true, 2},
	{"rebuild of all folds, 1,000,000 events", "Rebuild", "ratio", "times plain replay", false, 1.5},
	{"the same, memory above before", "Rebuild", "MiB", "MiB", false, 256},
	{"warm start on saved folds", "Rebuild", "warm-s", "s", false, 1},
	{"an event at 10,000 to 1,000,000 events, growth", "Growth", "ratio", "times", false, 1.3},
	{"server at 1,000,000 events, memory above empty", "Growth", "MiB", "MiB", false, 160},
	{"idle process, memory", "Start", "idle-MiB", "MiB", false, 100},
	{"start to ready, empty streams", "Start", "empty-s", "s", false, 0.5},
	{"start to ready, 100,000 events", "Start", "full-s", "s", false, 3},
	{"the same after kill -9", "Start", "full-after-kill-s", "s", false, 3},
	{"take-over after kill -9", "TakeOver", "kill-s", "s", false, 8},
	{"take-over on a clean stop", "TakeOver", "stop-s", "s", false, 0.5},
	{"POST /events durable, 64 connections, embedded", "Door/embedded", "ratio", "of plain", true, 0.5},
	{"POST /events p99, embedded", "Door/embedded", "p99-ratio", "times plain", false, 3},
	{"POST /events durable, 64 connections, loopback", "Door/loopback", "ratio", "of plain", true, 0.5},
	{"POST /events p99, loopback", "Door/loopback", "p99-ratio", "times plain", false, 3},
	{"1,000 SSE readers, 100 events/s: furthest behind", "FanOut/sse", "behind-s", "s", false, 1},
	{"1,000 SSE readers: memory of each", "FanOut/sse", "KiB-each", "KiB", false, 64},
	{"100 subscriptions, 50 events/s: furthest behind", "FanOut/subscriptions", "behind-s", "s", false, 1},
	{"100 subscriptions: memory of each", "FanOut/subscriptions", "KiB-each", "KiB", false, 64},
}
