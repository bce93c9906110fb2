// Package canary decides, from counts alone, whether a new version that serves a part of the traffic is rolled back,
// promoted, or watched for longer. It is a sequential test: it may be looked at after every tick
// without spending any of its error probability.
//
// Each error is a coin toss: which version produced it? With m_c canary and m_b baseline requests in a tick, an error
// falls on the canary with probability θ(r) = r·m_c/(r·m_c + m_b) when its error rate is r times the baseline's.
// Only the ratio enters, so an outage that both versions share moves nothing.
//
//   - Rollback: the mean over r of Π [θ(r)/θ(1)]^x_c · [(1−θ(r))/(1−θ(1))]^x_b is an e-process under "the canary is
//     no worse". At 1/α it is rolled back; by Ville's inequality a canary that is no worse ever gets there with
//     probability at most α.
//   - Promote: the same coin against "at least twice the baseline's rate", averaged with a test against "at least
//     the floor". The average is an e-value where both hypotheses hold: a version is promoted when it is shown not to be
//     twice as bad, or when so few of its requests fail that the ratio does not matter. Without the floor a service
//     that never fails would never give the coin a toss.
//   - Latency, where it is counted: the shift of mean log latency by a half-normal mixture, S = Σ d/v and I = Σ 1/v over the
//     ticks, against the tolerance; without one averaged with the coin for "above a bound". Evidence for a rollback is
//     the mean over errors, latency and guards; a promotion needs both errors and latency.
//   - At the deadline: promote only while the evidence against the canary is below Policy.DeadlineEvidence. Else it gets as
//     much time again, in which it has to show that it is not worse, and is rolled back when that ends with as much. But with too little traffic to have seen the regression that the policy wants seen, hold and say how
//     many more requests are needed.
//
// # Dispersion
//
// Errors come clustered: one client retries, one user has the broken account. All log evidence is divided by φ, the
// Pearson dispersion of the baseline's errors per minute, at least 1. A power 1/φ of an e-value is still one (Jensen), so dividing
// never makes the test less valid. φ comes from the hour before the rollout (Start). Where that hour is missing
// or has few errors, φ is a weighted mean with a prior of PriorDispersion = 2 (each failing action is seen
// about twice: one retry), which counts as the degrees of freedom missing to 30. The prior is above the smallest possible
// value on purpose: without history a decision takes twice the errors, and never rests on an independence
// that nobody has observed. While fewer than 30 degrees of freedom are known the baseline's minutes of the rollout itself are learned from;
// afterwards φ stays, so that an outage in the middle cannot inflate it and blind the test.
//
// # What it does not do yet
//
// Without history (a version that has just come, a front that was restarted), errors that cluster far beyond the prior (φ about 6 in the simulation) roll back some 8 % of harmless
// versions, since it takes minutes to learn it: give Start the hour before. A canary that got bad late is seen late: evidence that it
// was good has to be used up first.
// A first version without a baseline has no test here: the coin needs two sides.
// Sums use float64: a verdict replayed on another processor architecture may differ in the last bit, so a
// verdict is recorded as a fact and not recomputed.
package canary
