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

for name in postgres_password grafana_password; do
    ! missing $name || random | keep $name
done
services="orchestrator order payment"
for service in $services; do
    for what in database_password amqp_password; do
        ! missing "${service}_$what" || random | keep "${service}_$what"
    done
    printf 'postgresql://%s:%s@postgres:5432/%s' "$service" "$(cat "${service}_database_password")" "$service" |
        keep "${service}_database_url"
    printf 'amqp://%s:%s@rabbitmq:5672/' "$service" "$(cat "${service}_amqp_password")" | keep "${service}_amqp_url"
done

if missing rabbitmq_definitions.json; then
    comma=
    {
        printf '{"vhosts": [{"name": "/"}],\n "users": ['
        for service in $services; do
            printf '%s\n  {"name": "%s", "password_hash": "%s", "tags": [], "limits": {}, "hashing_algorithm": "%s"}' \
                "$comma" "$service" "$(hashed "$(cat "${service}_amqp_password")")" rabbit_password_hashing_sha256
            comma=,
        done
        printf '],\n "permissions": ['
        comma=
        for service in $services; do
            printf '%s\n  {"user": "%s", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}' "$comma" "$service"
            comma=,
        done
        printf ']}\n'
    } | keep rabbitmq_definitions.json
fi
