// Package image is what becomes an artifact where a pipeline packages by a Dockerfile. An engine builds it; here is what goes in, the
// context and the names of the images that it is made of, and what comes out: the same image for the same commit.
//
//	d := image.Read(text, args, target)         // d.Bases, d.Declares
//	err := image.Context{…}.Write(file)         // tar archive for the engine
//	made, err := image.Reproduce(saved, archive, image.Options{Created: commit, Began: began})
//
// The archive is an image layout of OCI in a tar file, as skopeo and others read it (oci-archive:FILE).
//
// What an engine saves differs from build to build in times, in the order of files, and in the ids and host names of its containers.
// Reproduce writes all of that anew. What scripts of the Dockerfile write into files is theirs: one that writes the time, or takes
// the newest version of something, makes another image each time.
package image
