#!/bin/sh
# A database for each service and three roles for each, on an empty PostgreSQL: for /docker-entrypoint-initdb.d, or to be
# run once by a superuser (PGHOST, PGUSER and their like say where). It may run again: what is there stays.
#
#   NAME_owner   owns the database and its tables: `migrate` connects as this role
#   NAME         the service: reads and writes rows, makes and changes no table, changes no history
#   NAME_prune   `prune`: may delete old history, too
#
# SERVICES names the services (orchestrator order payment). One called subjects is the database of the keys of persons:
# all services that seal share its role, and instead of the last there is subjects_erase, for `amends subjects erase`.
# The passwords are files in SECRETS (/run/secrets), called postgres_NAME, postgres_NAME_owner and postgres_NAME_prune;
# a role without one cannot log in with a password. What the latter two roles may do is granted by `migrate`, with
# AMENDS_APP_ROLE and AMENDS_PRUNE_ROLE (AMENDS_ERASE_ROLE) set to them.
# Needs psql 15 or newer.
set -eu

secret() { [ ! -r "${SECRETS:-/run/secrets}/postgres_$1" ] || cat "${SECRETS:-/run/secrets}/postgres_$1"; }

for service in ${SERVICES:-orchestrator order payment}; do
    case "$service" in *subjects) third=erase ;; *) third=prune ;; esac
    # The passwords reach psql by its environment: neither a command line nor the server's log shows them.
    OWNER=$(secret "${service}_owner") APP=$(secret "$service") THIRD=$(secret "${service}_$third") \
        psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-${PGUSER:-postgres}}" \
        --dbname postgres --set app="$service" --set owner="${service}_owner" --set third="${service}_$third" <<'SQL'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\getenv secret_of_owner OWNER
\getenv secret_of_app APP
\getenv secret_of_third THIRD
SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES (:'owner'), (:'app'), (:'third')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', name, secret)
FROM (VALUES (:'owner', :'secret_of_owner'), (:'app', :'secret_of_app'), (:'third', :'secret_of_third'))
AS wanted (name, secret) WHERE secret <> '' \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'app', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'app') \gexec
REVOKE ALL ON DATABASE :"app" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"app" TO :"app", :"third";
\connect :"app"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO :"owner";
SQL
done
