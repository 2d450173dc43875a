#!/bin/sh
# Run once, by the image of PostgreSQL, when its data directory is new: a database and a user for each service, and no
# service can open another's.
set -eu

for service in orchestrator order payment; do
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set service="$service" --set secret="/run/secrets/${service}_database_password" <<'SQL'
\set password `cat :'secret'`
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service";
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done
