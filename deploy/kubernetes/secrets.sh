#!/bin/sh
# Secrets with new passwords, for a first try: the production overlay's, or those of the services that are named.
#
#   deploy/kubernetes/secrets.sh | kubectl apply --namespace amends --filename -
#   deploy/kubernetes/secrets.sh warehouse | kubectl apply --namespace amends --filename -
#   deploy/kubernetes/secrets.sh subjects | kubectl apply --namespace amends --filename -
#
# Applied again they change every password. Where secrets are kept elsewhere (External Secrets, Sealed Secrets), make
# these there, with these names and keys. The URLs ask for TLS, as the component `tls` sets it up; TLS=no leaves it out.
# NAMESPACE is where the broker is (amends): KEDA asks it from another one.
set -eu

database_host=${DATABASE_HOST:-postgresql-rw}
broker_host=${BROKER_HOST:-rabbitmq}
monitored_host=${BROKER_HOST:-rabbitmq.${NAMESPACE:-amends}.svc}
vhost=${VHOST:-amends}
authorities=/run/secrets/authorities
if [ "${TLS:-yes}" = no ]; then
    database_tls='' amqp=amqp amqp_port=5672 broker_tls='' monitor_tls=disable
else
    database_tls="?sslmode=verify-full&sslrootcert=$authorities/database.pem"
    amqp=amqps amqp_port=5671 broker_tls="?cafile=$authorities/broker.pem" monitor_tls=enable
fi

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

# Of the keys of persons (subjects): a role for all services that seal, the owner, and the one that erases. Their master
# key is not here: applied again it would be another, and nobody could read what the old one has wrapped.
database() {
    case "$1" in subjects) third=erase ;; *) third=prune ;; esac
    for role in '' owner $third; do
        user=$(user "$1")${role:+_$role}
        secret "$(resource "$1")-database${role:+-$role}" "$user" database-url "postgresql://$user:" \
            "@$database_host:5432/$(user "$1")$database_tls" 'cnpg.io/reload: "true"'
    done
}

broker() {
    user=$(user "$1")
    secret "$(resource "$1")-broker" "$user" amqp-url "$amqp://$user:" "@$broker_host:$amqp_port/$vhost$broker_tls" \
        'rabbitmq.com/topology-operator: "true"'
}

# For KEDA, which is given the authority apart from the URL.
monitor() {
    secret monitor-broker monitor amqp-url "$amqp://monitor:" "@$monitored_host:$amqp_port/$vhost" \
        'rabbitmq.com/topology-operator: "true"'
    printf '  tls: %s\n' "$monitor_tls"
}

case "${1:-}" in
    "")
        for name in orchestrator order payment; do database $name; broker $name; done
        monitor
        ;;
    -*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *)
        for name; do
            database "$name"
            [ "$name" = subjects ] || broker "$name"
        done
        ;;
esac
