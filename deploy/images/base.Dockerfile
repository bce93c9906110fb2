# What an official image would be, out of this machine's own programs, for machines that can pull nothing.
FROM scratch
ARG ENTRY
COPY root/ /
ENV PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin \
    GOTOOLCHAIN=local GOFLAGS=-buildvcs=false \
    GOCACHE=/var/cache/lemnis/go-build GOMODCACHE=/var/cache/lemnis/mod \
    ENTRYPOINT=${ENTRY}
ENTRYPOINT ["/usr/local/bin/entrypoint"]
