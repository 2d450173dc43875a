#!/bin/sh
# Another version of a service that runs in Compose, while its work goes on:
#
#   export TAG=0.1.1
#   sh deploy/replace.sh orchestrator
#
# A second container, of the version that TAG names, works on the service's queue until Compose has replaced the first.
# Then it gets SIGTERM: it gives back what it has not begun, finishes what it has, and is removed. It has no port of its
# own, so whom clients speak to is replaced as Compose does it. COMPOSE_FILE says which file.
set -eu

say() { printf '%s\n' "amends: $*" >&2; }

[ $# = 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
service=$1
running=$(docker compose ps --quiet "$service")
[ -n "$running" ] || { say "$service does not run; start it: docker compose up --detach --wait $service"; exit 1; }

# Compose prints what it does on stderr, and the container's id on stdout.
beside=$(docker compose run --detach --no-deps -T "$service" | tail -n 1)
leave() { docker stop "$beside" >/dev/null && docker rm "$beside" >/dev/null; }
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

state() { docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "$beside"; }
while :; do
    # Looked at once: it changes meanwhile.
    now=$(state)
    case $now in
        "running healthy") break ;;
        "running starting" | created*) sleep 0.5 ;;
        *)
            docker logs --tail 20 "$beside" >&2
            say "the new version of $service does not become ready ($now); the old one goes on"
            exit 1
            ;;
    esac
done
docker compose up --detach --no-deps --no-build --wait "$service"
