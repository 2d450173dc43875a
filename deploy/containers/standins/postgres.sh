#!/bin/sh
# What compose relies on of the image postgres: a new data directory is initialized, with the superuser's password from
# a file or a variable, and what lies in /docker-entrypoint-initdb.d is run once, while the server answers on its socket
# only. Started as root it becomes postgres.
set -eu
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups sh "$0" "$@"
fi
if [ -z "${POSTGRES_PASSWORD_FILE:-}" ]; then
    POSTGRES_PASSWORD_FILE=/tmp/password
    printf %s "${POSTGRES_PASSWORD:?is the password of the superuser; or name a file with it: POSTGRES_PASSWORD_FILE}" \
        >"$POSTGRES_PASSWORD_FILE"
fi
export POSTGRES_USER="${POSTGRES_USER:-postgres}"

if ! [ -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --encoding=UTF8
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o '-c listen_addresses=' -w start
    [ -z "${POSTGRES_DB:-}" ] || createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
    for each in /docker-entrypoint-initdb.d/*; do
        case $each in
            *.sh) sh -e "$each" ;;
            *.sql) psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres -f "$each" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@" -c listen_addresses='*'
