#!/usr/bin/env bash
# secrets.sh [FOLDER] makes what is missing of a stack's secrets: keys of the services on NATS, tokens of the gateway, passwords.
# What is there stays as it is. Every file can be read by one user only, the one that the containers run as: whoever calls
# this, or 65532 when root does.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-deploy/compose/secrets}
lemnis=${LEMNIS:-bin/lemnis}
umask 077
mkdir -p "$folder"

random() { # 256 bits and more, in letters and digits
	local text
	text=$(head -c 64 /dev/urandom | base64 -w 0 | tr -d '+/=')
	echo "${text:0:48}"
}

made=0
missing() { [ ! -e "$folder/$1" ] && made=$((made + 1)); }

for service in planner builder deployer monitor feedback gateway; do
	missing "$service.nk" || continue
	# A key whose seed was lost is of no use to anybody.
	"$lemnis" keys revoke "$service" --data "$folder" 2>/dev/null || true
	"$lemnis" keys create "$service" --data "$folder" --out "$folder/$service.nk" 2>/dev/null
done
for token in admin builder deployer; do
	if missing "$token.token"; then echo "lmn_$(random)" >"$folder/$token.token"; fi
done
if missing signing.key; then "$lemnis" keys signing --out "$folder" 2>/dev/null; fi
# What projects call secret:<name>: projects/<service>/<project>/<name>, read by that service alone.
mkdir -p "$folder"/projects/{gateway,builder,deployer,monitor}
if missing redis.password; then random >"$folder/redis.password"; fi
if missing route.password; then echo "route-$(random)" >"$folder/route.password"; fi
if missing redis.conf; then
	printf 'requirepass %s\nsave ""\nappendonly no\ndir /tmp\n' "$(cat "$folder/redis.password")" >"$folder/redis.conf"
fi
# Public keys only, and of the keys that are good now: written anew each time. The server may run as another user.
"$lemnis" keys export --nats-conf --data "$folder" >"$folder/accounts.conf"
chmod 644 "$folder/accounts.conf"

user=$(id -u) group=$(id -g)
if [ "$user" = 0 ]; then
	user=65532 group=65532
	chown -R "$user:$group" "$folder"
fi
cat >"$folder/stack.env" <<EOF
LEMNIS_SECRETS=$(cd "$folder" && pwd)
LEMNIS_UID=$user
LEMNIS_GID=$group
NATS_ROUTE_PASSWORD=$(cat "$folder/route.password")
EOF
echo "secrets in $folder: $made made, the others were there"
