// Package stepcache keeps on the bus, in the stream CACHE, what steps of pipelines left, for builders that share no folder.
//
//	repository := stepcache.New(js).Repository("shop", "https://git.example.org/shop/api.git")
//	err := repository.PutBlob(ctx, digest, file)      // what the entry names
//	err = repository.PutEntry(ctx, tree, key, entry)  // last, so that who finds it finds all
//	err = repository.Trim(ctx)                        // once all is put
//	entry, err := repository.Entry(ctx, tree, key)    // nil: there is none
//	err = repository.Blob(ctx, digest, size, file)
//
// An entry is one message, under the whole tree that its step was run on. A blob is in compressed chunks, one message each, under its digest,
// and is checked against it when it is read. Only builders may write to the stream. It is bounded: [MostBytes] of a blob and of what
// a repository has, the newest stay; a week or two, by the stream's age; and all repositories together.
package stepcache
