// Package artifact decides on what builds leave in the binary repository: packaged, signed, published,
// and then downloaded or deleted there. An artifact is its digest; two builds with the same one
// made the same thing.
package artifact
