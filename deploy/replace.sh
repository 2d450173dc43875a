#!/bin/sh
# Another version of a service that runs in Compose, while its work goes on:
#
#   export TAG=0.1.1
#   sh deploy/replace.sh orchestrator
#
# A second container, of the version that TAG names, works on the service's queue until Compose has replaced the first.
# Then it gets SIGTERM: it gives back what it has not begun, finishes what it has, and is removed. It has no port of its
# own, so whom clients speak to is replaced as Compose does it. COMPOSE_FILE says which file.
#
# Where this ends half way (Compose fails, Ctrl-C) and nobody else would do the work, the second container stays, and
# that is said. Run again, it goes on from there.
set -eu

say() { printf '%s\n' "amends: $*" >&2; }

[ $# = 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
service=$1
project=$(docker compose config)
beside=$(printf '%s\n' "$project" | sed -n 's/^name: *//p')-$service-beside

# Of a container; nothing where there is none.
state() {
    docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "$1" 2>/dev/null ||
        true
}
works() { case $(state "$1") in "running healthy" | "running ") ;; *) return 1 ;; esac; }
# Of several containers that the service may have, one is enough.
goes_on() {
    for each in $(docker compose ps --quiet "$service"); do
        if works "$each"; then return 0; fi
    done
    return 1
}
leave() {
    [ -n "$(state "$beside")" ] || return 0
    if works "$beside" && ! goes_on; then
        say "$service is not ready; $beside, which has no port, does its work until you have mended that and run this again"
    else
        docker stop "$beside" >/dev/null && docker rm "$beside" >/dev/null
    fi
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

case $(state "$beside") in
    running*) ;;
    *)
        running=$(docker compose ps --quiet "$service")
        [ -n "$running" ] || { say "$service does not run; start it: docker compose up --detach --wait $service"; exit 1; }
        docker rm --force "$beside" >/dev/null 2>&1 || true
        docker compose run --detach --no-deps -T --name "$beside" "$service" >/dev/null
        ;;
esac
while :; do
    # Looked at once: it changes meanwhile.
    now=$(state "$beside")
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
