#!/usr/bin/env bash
# root.sh SERVICE FOLDER makes the root file system of an image: the program, its bill of materials, the folders that are
# written to. Every file has the time SOURCE_DATE_EPOCH, so that the same source gives the same layer.
set -euo pipefail
cd "$(dirname "$0")/../.."
service=$1 out=$2

case $service in
tools) package=./cmd/lemnis ;;
*) package=./services/$service/cmd/lemnis-$service ;;
esac

rm -rf "$out"
mkdir -p "$out/usr/share/lemnis" "$out/var/lib/lemnis" "$out/tmp"
# grpcnotrace: what gRPC shows of itself at /debug/requests, which nobody serves here, brings text/template, and with it 12 MB
# that the linker could leave out.
CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -buildvcs="${BUILDVCS:-auto}" -ldflags '-s -w' -o "$out/lemnis" "$package"
cp LICENSE "$out/usr/share/lemnis/LICENSE"
go run ./internal/cmd/sbom "$out/lemnis" >"$out/usr/share/lemnis/sbom.cdx.json"
# Whichever user a container runs as may write here, and only here.
chmod 1777 "$out/var/lib/lemnis" "$out/tmp"
case $service in
builder | tools) # repositories that both see, and what the go command keeps
	mkdir -p "$out/srv/git" "$out/var/cache/lemnis"
	chmod 1777 "$out/srv/git" "$out/var/cache/lemnis"
	;;
esac
# An empty base has nobody's certificates.
if [ -n "${CERTIFICATES:-}" ]; then
	mkdir -p "$out/etc/ssl/certs"
	cp -L "$CERTIFICATES" "$out/etc/ssl/certs/ca-certificates.crt"
fi
find "$out" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
