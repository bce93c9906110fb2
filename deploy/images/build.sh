#!/usr/bin/env bash
# build.sh [IMAGE...] builds the images of Lemnis, and those of NATS, Redis and a Go toolchain where the official ones are
# neither here nor can be pulled. Without arguments all of them. It says which images a stack uses in bin/images/images.env.
#
#   LEMNIS_IMAGE_PREFIX, LEMNIS_TAG     names of the images: lemnis/planner:dev
#   BASE, BUILDER_BASE                  what they are built on; scratch, and this machine's own git and Go, where nothing can be pulled
#   NATS_IMAGE, REDIS_IMAGE             what runs beside them
#   PULL=0                              pulls nothing
set -euo pipefail
cd "$(dirname "$0")/../.."
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}
# The tags of the Go and NATS images are the versions that the tests run with.
nats_version=$(go list -m -f '{{.Version}}' github.com/nats-io/nats-server/v2) nats_version=${nats_version#v}
go_version=$(go env GOVERSION) go_version=${go_version#go}

prefix=${LEMNIS_IMAGE_PREFIX-lemnis/} tag=${LEMNIS_TAG:-dev}
base=${BASE:-gcr.io/distroless/static-debian12:nonroot}
builder_base=${BUILDER_BASE:-golang:$go_version-bookworm}
nats=${NATS_IMAGE:-nats:${nats_version%.*}-alpine}
redis=${REDIS_IMAGE:-redis:7-bookworm}
out=bin/images
mkdir -p "$out"

if SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null)}; then :; else SOURCE_DATE_EPOCH=0; fi
export SOURCE_DATE_EPOCH
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

# One at a time: the folders are shared.
exec 9>"$out/lock"
flock 9

# quietly says what a command printed only when it fails: the classic builder complains of itself each time.
quietly() {
	local said
	said=$("$@" 2>&1) || { local code=$?; echo "$said" >&2; return $code; }
}

# available IMAGE: it is here, or can be pulled.
available() {
	docker image inspect "$1" >/dev/null 2>&1 && return
	[ "${PULL:-1}" != 0 ] && timeout "${PULL_TIMEOUT:-120}" docker pull -q "$1" >/dev/null 2>&1
}

here() { docker image inspect "$1" >/dev/null 2>&1; }

# put ROOT FILE... copies programs of this machine with the libraries that they are linked with.
put() {
	local root=$1 file
	shift
	for file in "$@"; do
		{ echo "$file"; ldd "$file" 2>/dev/null | grep -o '/[^ )]*' || true; } | sort -u | while read -r one; do
			[ -e "$root$one" ] || { mkdir -p "$root$(dirname "$one")" && cp -L "$one" "$root$one"; }
		done
	done
}

# common ROOT: the entrypoint, and who runs what.
common() {
	local root=$1
	mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/tmp" "$root/data"
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$root/usr/local/bin/entrypoint" ./internal/cmd/entrypoint
	cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	printf 'root:x:0:0::/:\nnonroot:x:65532:65532::/tmp:\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
	chmod 1777 "$root/tmp" "$root/data"
}

# from_here NAME ENTRY: an image FROM scratch of bin/images/NAME/root.
from_here() {
	local name=$1 entry=$2
	quietly docker build -q --build-arg "ENTRY=$entry" -f deploy/images/base.Dockerfile -t "$name" "$out/here"
	rm -rf "$out/here"
	echo "built $name out of this machine's own programs"
}

nats_here() {
	common "$out/here/root"
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/here/root/usr/local/bin/nats-server" github.com/nats-io/nats-server/v2
	# The health check of the stack asks the server with wget, which the official image has.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/here/root/usr/local/bin/wget" ./internal/cmd/ask
	from_here "$1" nats-server
}

redis_here() {
	common "$out/here/root"
	put "$out/here/root" "$(command -v redis-server)" "$(command -v redis-cli)"
	from_here "$1" redis-server
}

# The Go toolchain without what builds nothing, git with its transports, the shell that git starts them with, and a build
# cache that has the standard library compiled as the pipeline compiles it.
builder_here() {
	local root=$out/here/root core
	core=$(git --exec-path)
	common "$root"
	mkdir -p "$root/usr/local/go" "$root/bin" "$root/var/cache/lemnis"
	tar -C "$(go env GOROOT)" -c --exclude=./test --exclude=./api --exclude=./doc --exclude=./misc --exclude=./src/cmd \
		--exclude='*_test.go' --exclude=testdata --exclude='*.syso' . | tar -C "$root/usr/local/go" -x
	put "$root" "$(command -v git)" "$core/git-remote-http" "$core/git-upload-pack" "$core/git-receive-pack"
	mkdir -p "$root$core"
	local program
	for program in git-remote-https git-remote-http; do cp -L "$core/$program" "$root$core/$program"; done
	for program in git-upload-pack git-receive-pack git-upload-archive; do
		ln -sf "$(command -v git)" "$root$core/$program"
		ln -sf "$(command -v git)" "$root/usr/bin/$program"
	done
	put "$root" "$(readlink -f /bin/sh)"
	ln -sf "$(readlink -f /bin/sh)" "$root/bin/sh"
	warm "$out/go-build"
	cp -r "$out/go-build" "$root/var/cache/lemnis/go-build"
	chmod -R a+rwX "$root/var/cache/lemnis"
	from_here "$1" ""
}

# warm CACHE compiles the demo's shop as the pipeline does.
warm() {
	local cache=$PWD/$1 dir file
	dir=$(mktemp -d)
	for file in cmd/lemnis/demo/shop/_files/main/*.txt; do cp "$file" "$dir/$(basename "$file" .txt)"; done
	(
		cd "$dir"
		export CGO_ENABLED=0 GOCACHE=$cache GOFLAGS=-buildvcs=false GOWORK=off
		go build -trimpath ./...
		go test -count=1 -coverprofile=cover.out -trimpath ./... >/dev/null
		go build -trimpath -ldflags='-s -w' -o shop .
	)
	rm -rf "$dir"
}

# either WANTED LOCAL MAKE: the wanted image where it is or can be had, else a local one, made when it is not there.
either() {
	local wanted=$1 local=$2 make=$3
	if available "$wanted"; then chosen=$wanted; return; fi
	chosen=$local
	here "$local" && return
	echo "$wanted is not here and can not be pulled"
	rm -rf "$out/here"
	"$make" "$local"
}

service() {
	local name=$1 on=$base context=$out/$1 certificates=
	case $name in builder | tools) on=$chosen_builder ;; esac
	[ "$on" = scratch ] && certificates=/etc/ssl/certs/ca-certificates.crt
	CERTIFICATES=$certificates deploy/images/root.sh "$name" "$context/$name"
	quietly docker build -q --target prebuilt --build-arg "BASE=$on" --build-arg "SERVICE=$name" --build-arg "VERSION=$version" \
		--build-arg "REVISION=$revision" --build-arg "CREATED=$created" ${NO_CACHE:+--no-cache} -f deploy/Dockerfile -t "$prefix$name:$tag" "$context"
	local bytes
	bytes=$(docker image inspect -f '{{.Size}}' "$prefix$name:$tag")
	echo "built $prefix$name:$tag on $on, $((bytes / 1000000)) MB"
	case $name in builder | tools) return ;; esac
	[ "$bytes" -lt 40000000 ] || { echo "$prefix$name:$tag has $bytes bytes; 40 MB are allowed" >&2; return 1; }
}

[ $# -gt 0 ] || set -- nats redis planner builder deployer monitor feedback gateway tools
chosen_nats=$nats chosen_redis=$redis chosen_builder=$builder_base
# What an earlier run has made counts also for one that makes other images, as long as it was made in this way.
recipe=$(cat deploy/images/* internal/cmd/{entrypoint,ask}/main.go | sha256sum | head -c 8)
nats_local=${prefix}nats-here:$nats_version-$recipe redis_local=${prefix}redis-here:7-$recipe
if ! here "$nats" && here "$nats_local"; then chosen_nats=$nats_local; fi
if ! here "$redis" && here "$redis_local"; then chosen_redis=$redis_local; fi
for image in "$@"; do
	case $image in
	nats) either "$nats" "$nats_local" nats_here && chosen_nats=$chosen ;;
	redis) either "$redis" "$redis_local" redis_here && chosen_redis=$chosen ;;
	*)
		[ "$base" = scratch ] || available "$base" || { echo "$base is not here and can not be pulled: on scratch"; base=scratch; }
		case $image in builder | tools)
			either "$builder_base" "${prefix}builder-base-here:$go_version-$recipe" builder_here && chosen_builder=$chosen ;;
		esac
		service "$image"
		;;
	esac
done
cat >"${ENV_FILE:-$out/images.env}" <<EOF
LEMNIS_IMAGE_PREFIX=$prefix
LEMNIS_TAG=$tag
NATS_IMAGE=$chosen_nats
REDIS_IMAGE=$chosen_redis
EOF
