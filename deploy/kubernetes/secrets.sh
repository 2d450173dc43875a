#!/bin/sh
# Secrets with new passwords, for a first try: the production overlay's, or those of the services that are named.
#
#   deploy/kubernetes/secrets.sh | kubectl apply --namespace amends --filename -
#   deploy/kubernetes/secrets.sh warehouse | kubectl apply --namespace amends --filename -
#
# Applied again they change every password. Where secrets are kept elsewhere (External Secrets, Sealed Secrets), make
# these there, with these names and keys.
set -eu

database_host=${DATABASE_HOST:-postgresql-rw}
broker_host=${BROKER_HOST:-rabbitmq}
vhost=${VHOST:-amends}

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# NAME USER KEY URL_BEFORE_THE_PASSWORD URL_AFTER_IT LABEL
secret() {
    new=$(password)
    cat <<END
---
apiVersion: v1
kind: Secret
metadata:
  name: $1
  labels:
    app.kubernetes.io/part-of: amends
    $6
type: kubernetes.io/basic-auth
stringData:
  username: $2
  password: $new
  $3: $4$new$5
END
}

# What is called stock_keeping in a database and on the broker is stock-keeping in the cluster.
user() { printf %s "$1" | tr - _; }
resource() { printf %s "$1" | tr _ -; }

database() {
    user=$(user "$1")
    secret "$(resource "$1")-database" "$user" database-url "postgresql://$user:" "@$database_host:5432/$user" \
        'cnpg.io/reload: "true"'
    secret "$(resource "$1")-database-owner" "${user}_owner" database-url "postgresql://${user}_owner:" \
        "@$database_host:5432/$user" 'cnpg.io/reload: "true"'
}

broker() {
    user=$(user "$1")
    secret "$(resource "$1")-broker" "$user" amqp-url "amqp://$user:" "@$broker_host:5672/$vhost" \
        'rabbitmq.com/topology-operator: "true"'
}

case "${1:-}" in
    "")
        for name in orchestrator order payment; do database $name; broker $name; done
        broker monitor
        ;;
    -*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) for name; do database "$name"; broker "$name"; done ;;
esac
