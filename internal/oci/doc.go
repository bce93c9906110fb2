// Package oci moves one executable to and from an OCI registry as an artifact that is named by its
// digest, and writes that name as a package URL.
//
//	ref, err := oci.Push(ctx, "127.0.0.1:8080/shop/api", "out/bin/api", oci.Metadata{…})
//	purl := ref.PURL() // pkg:oci/api@sha256%3A…?repository_url=127.0.0.1:8080/shop/api
//	ref, err = oci.ParsePURL(purl)
//	file, err := oci.Pull(ctx, ref, "releases/api")
//	_, err = oci.Attach(ctx, ref, oci.Attachment{MediaType: "application/vnd.cyclonedx+json", Content: bill})
//	all, err := oci.Attached(ctx, ref, "application/vnd.cyclonedx+json", 10)
//
// The artifact is an OCI 1.1 image manifest with an artifactType, the empty config and one layer:
// the file's bytes as they are, so the layer's digest is the file's. The same file and metadata
// give the same manifest digest, so that a push may be repeated. Pull believes nothing that does
// not hash to the digest asked for.
package oci
