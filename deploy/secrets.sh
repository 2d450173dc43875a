#!/bin/sh
# What deploy/compose.yaml mounts as secrets: a random password for each user, and the URLs that name them.
#
#   sh deploy/secrets.sh    write what is missing into deploy/secrets; what is there stays
#
# Needs a POSIX shell and coreutils. To have new passwords, remove the folder and the volumes that know the old ones
# (docker compose down --volumes).
set -eu
umask 077
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
