// Package sample compares raw samples of one metric, of a canary and of a baseline: is the canary worse in level or in
// spread?
//
// Three statistics are looked at, each a sum of scores over the canary's samples that depend on the pooled ranks alone:
//
//   - level: the ranks (Mann and Whitney's);
//   - spread: normal scores of the ranks of the distance from the pooled median (Fligner and Killeen's with a common
//     centre). It counts only where the canary's 90th percentile is worse too: a canary of whose values some are better is
//     not worse;
//   - tail: by how much a rank is among the worst tenth. A few very bad values move neither of the others.
//
// Each is standardised, and the largest is compared with what it would be under every way of giving the labels out: all of
// them where they are few, else a fixed random part. So ties, constants, unequal sizes and any distribution are
// dealt with exactly, and the three together are wrong about versions that are the same with probability Alpha at most.
// A comparison of medians, or of an interval of their shift, passes a canary that fails for a part of its
// requests; here 7 of 10 that are a hundred times worse have a p of 0.0015.
//
// What is not bad is good only if the samples could have shown it: a canary of which 60 % is worse than all of the
// baseline has to be bad at these sizes (7 samples each, where both have as many), and p is above Undecided. Otherwise it
// holds.
package sample
