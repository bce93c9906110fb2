#!/usr/bin/env bash
# stack.sh secrets|up|demo|roll|down|kill runs the stack that deploy/compose describes. CLUSTER=1: the one of three NATS servers
# and two of every service. The images are those that make images has built, or the environment names.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${LEMNIS_SECRETS:-deploy/compose/secrets}
file=deploy/compose/compose.yaml project=lemnis
[ "${CLUSTER:-0}" = 0 ] || { file=deploy/compose/compose.cluster.yaml project=lemnis-cluster; }
project=${PROJECT:-$project}

compose() {
	local tool=(docker-compose)
	! docker compose version >/dev/null 2>&1 || tool=(docker compose)
	"${tool[@]}" --env-file "$folder/compose.env" -f "$file" -p "$project" "$@"
}

containers() { docker ps -aq --filter "label=com.docker.compose.project=$project" "$@"; }

name() { docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$1"; }

secrets() {
	deploy/compose/secrets.sh "$folder"
	(umask 077 && cat "$folder/stack.env" $([ ! -e bin/images/images.env ] || echo bin/images/images.env) >"$folder/compose.env")
}

# ready waits until every container that can say how it is says that it is well.
ready() {
	local began=$SECONDS id ill
	while :; do
		ill=()
		for id in $(containers); do
			case $(docker inspect -f '{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}' "$id") in
			'running ' | 'running healthy') ;;
			'exited '*) [ "$(docker inspect -f '{{.State.ExitCode}}' "$id")" = 0 ] || ill+=("$(name "$id")") ;;
			*) ill+=("$(name "$id")") ;;
			esac
		done
		[ ${#ill[@]} -gt 0 ] || { echo "all are well after $((SECONDS - began)) s"; return; }
		if [ $((SECONDS - began)) -gt "${PATIENCE:-180}" ]; then
			echo "not well after $((SECONDS - began)) s: ${ill[*]}" >&2
			compose logs --tail 20 "${ill[@]}" >&2
			return 1
		fi
		sleep 1
	done
}

up() {
	secrets
	compose up -d
	ready
	local port=${LEMNIS_PORT:-8080}
	[ "${CLUSTER:-0}" = 0 ] || port=${LEMNIS_PORT_1:-8080}
	echo "dashboard: http://127.0.0.1:$port (the token is in $folder/admin.token)"
}

demo() { compose run --rm demo; }

# roll replaces one container after the other by one of the images that the environment names now, and goes on when all are well
# again: in a cluster nobody is left without a service meanwhile. ROLL names some only.
roll() {
	secrets
	local began=$SECONDS each
	compose up -d --no-deps --force-recreate streams
	ready
	for each in $(compose config --services | grep -v -e '^streams$' -e '^demo$' | sort -r); do
		[ -z "${ROLL:-}" ] || [[ " $ROLL " == *" $each "* ]] || continue
		compose up -d --no-deps --force-recreate "$each"
		ready
	done
	echo "all were replaced after $((SECONDS - began)) s"
}

down() { compose down --remove-orphans $([ "${VOLUMES:-0}" = 0 ] || echo -v); }

# kill ends each container in turn without a word (docker kill, after which no restart policy brings it back) while a lap is
# under way: the lap has to close without it. Then it is started again, and the next is killed. KILL names some only.
kill_each() {
	local id victim failed=() done=0 began
	for id in $(containers --filter status=running); do
		victim=$(name "$id")
		[ -z "${KILL:-}" ] || [[ " $KILL " == *" $victim "* ]] || continue
		began=$SECONDS
		if lap_without "$id"; then
			echo "$victim was killed: the lap closed after $((SECONDS - began)) s"
		else
			echo "$victim was killed: THE LAP DID NOT CLOSE; its output is in bin/images/kill-$victim.log" >&2
			failed+=("$victim")
		fi
		done=$((done + 1))
		docker start "$id" >/dev/null
		ready >/dev/null
	done
	echo "$done containers killed, ${#failed[@]} laps did not close: ${failed[*]:-none}"
	[ "$done" -gt 0 ] && [ ${#failed[@]} -eq 0 ]
}

# lap_without turns a lap and kills a container once its baseline serves users.
lap_without() {
	local id=$1 log lap
	log=bin/images/kill-$(name "$id").log
	: >"$log"
	demo >"$log" 2>&1 </dev/null &
	lap=$!
	until grep -q 'users send' "$log"; do
		kill -0 "$lap" 2>/dev/null || { wait "$lap" || true; return 1; }
		sleep 0.2
	done
	docker kill "$id" >/dev/null
	wait "$lap" && grep -q 'the lap closed' "$log"
}

case ${1:-} in
secrets | up | demo | roll | down) "$1" ;;
kill) kill_each ;;
*) echo "stack.sh secrets|up|demo|roll|down|kill" >&2; exit 2 ;;
esac
