#!/bin/sh
# What compose relies on of the image postgres: a new data directory is initialized, with the superuser's password from
# a file, and what lies in /docker-entrypoint-initdb.d is run once, while the server answers on its socket only.
set -eu
[ "$1" = postgres ] || exec "$@"
: "${POSTGRES_PASSWORD_FILE:?names a file with the password of the superuser}"
export POSTGRES_USER="${POSTGRES_USER:-postgres}"

if ! [ -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --encoding=UTF8
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o '-c listen_addresses=' -w start
    for each in /docker-entrypoint-initdb.d/*; do
        case $each in
            *.sh) sh -e "$each" ;;
            *.sql) psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres -f "$each" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@" -c listen_addresses='*'
