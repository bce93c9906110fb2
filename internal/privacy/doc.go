// Package privacy keeps what users say in confidence. At every door their words are masked and then sealed under a
// data key of that user's own, before they become part of an event; the stream, which forgets nothing, holds only
// ciphertext. Erasing a user deletes the key: what was sealed under it is unreadable from then on, wherever it is.
//
// Keys live in the JetStream bucket [Bucket], one a user: <project>.<pseudonym>. The pseudonym is a hash of the user
// that is keyed by a secret of the project, so that nobody can find out by trying addresses who said something.
// Text is encrypted with AES-256-GCM under a random nonce, bound to the project and the key's id; an id names one
// generation of a key, so that a user who comes back after an erasure gets a new one.
//
// # What it does not do yet
//
// Data keys are stored as they are: whoever reads the bucket's files can read the text. They are not wrapped by a key
// from outside, nor rotated. An erased key is gone from the bucket, but not from copies of its files made before.
// The pseudonym of an erased user stays in events, and can be linked by who holds the project's secret.
package privacy
