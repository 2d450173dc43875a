#!/bin/sh
# What deploy/compose.yaml mounts as secrets: a random password for each user, and the URLs that name them.
#
#   sh deploy/secrets.sh             write what is missing into deploy/secrets; what is there stays
#   sh deploy/secrets.sh signing     the same, and the keys of compose.signing.yaml: run it once there is an image
#   sh deploy/secrets.sh subjects    the same, and what compose.subjects.yaml mounts
#
# Needs a POSIX shell and coreutils; for signing also docker, which runs `amends keys new` in the orchestrator's image
# (AMENDS names another program, such as .venv/bin/amends). To have new passwords, remove the folder and the volumes that
# know the old ones (docker compose down --volumes).
set -eu
umask 077
for word; do
    case "$word" in signing | subjects) ;; *) echo "secrets.sh: $word is neither signing nor subjects" >&2; exit 2 ;; esac
done
case "${AMENDS:-}" in */*) AMENDS=$(cd "$(dirname "$AMENDS")" && pwd)/$(basename "$AMENDS") ;; esac
cd "$(dirname "$0")"
mkdir -p secrets
# Nobody else may look into the folder. The files may be read by all: a container mounts each by itself, and its user
# has another number than ours.
chmod 700 secrets
cd secrets

missing() { ! [ -s "$1" ]; }
keep() { cat >"$1.new" && chmod 644 "$1.new" && mv "$1.new" "$1"; }
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
bytes() { for each in $(printf %s "$1" | sed 's/../0x& /g'); do printf "\\$(printf %03o "$each")"; done; }

# As RabbitMQ keeps them: four bytes of salt, and the SHA-256 of salt and password behind.
hashed() {
    salt=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
    digest=$({ bytes "$salt"; printf %s "$1"; } | sha256sum | cut -d ' ' -f 1)
    bytes "$salt$digest" | base64 | tr -d '\n'
}

password() { missing "$1" && random | keep "$1" || true; }

services="orchestrator order payment"
password postgres_password
password grafana_password
for service in $services; do
    # Three roles, as postgresql/initialize.sh makes them: the service, the owner of its tables, and who prunes them.
    for role in "$service" "${service}_owner" "${service}_prune"; do
        password "postgres_$role"
        printf 'postgresql://%s:%s@postgres:5432/%s' "$role" "$(cat "postgres_$role")" "$service" |
            keep "${role}_database_url"
    done
done
users="$services operator monitor"
for user in $users; do
    password "rabbitmq_$user"
    printf 'amqp://%s:%s@rabbitmq:5672/amends' "$user" "$(cat "rabbitmq_$user")" | keep "${user}_amqp_url"
done

# Who may do what on the broker stands in rabbitmq/definitions.json, with a place for each password's hash.
if missing rabbitmq_definitions.json || [ ../rabbitmq/definitions.json -nt rabbitmq_definitions.json ]; then
    filled=
    for user in $users; do
        filled="$filled;s|@$user@|$(hashed "$(cat "rabbitmq_$user")")|"
    done
    sed "${filled#;}" ../rabbitmq/definitions.json | keep rabbitmq_definitions.json
fi

image=${IMAGES:-amends}/orchestrator:${TAG_ORCHESTRATOR:-${TAG:-0.1.0}}
amends() {
    if [ -n "${AMENDS:-}" ]; then
        "$AMENDS" "$@"
    else
        docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/secrets" --workdir /secrets \
            "$image" "$@"
    fi
}

# A folder that a container mounts whole, and whose user has another number than ours.
folder() { mkdir -p "$1" && chmod 755 "$1"; }

signing() {
    folder public_keys
    for service in $services; do
        missing "signing_key_$service.json" || continue
        # What an attempt has left that did not come to its end.
        rm -f "signing_key_$service.json" signing_key.new "public_keys/$service-1.json"
        amends keys new "$service" --id "$service-1" --private signing_key.new --public public_keys >/dev/null
        chmod 644 signing_key.new "public_keys/$service-1.json"
        mv signing_key.new "signing_key_$service.json"
    done
}

subjects() {
    for role in subjects subjects_owner subjects_erase; do
        password "postgres_$role"
        printf 'postgresql://%s:%s@postgres:5432/subjects' "$role" "$(cat "postgres_$role")" | keep "${role}_database_url"
    done
    folder master_keys
    if missing master_keys/master-1.json; then
        key=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
        printf '{"kty": "oct", "kid": "master-1", "alg": "A256GCM", "k": "%s"}\n' "$key" | keep master_keys/master-1.json
    fi
}

for word; do "$word"; done
