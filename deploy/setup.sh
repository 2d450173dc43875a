#!/bin/sh
# What the Makefile needs before it can run anything. Safe to repeat, and instant when there is nothing to do.
#
#   deploy/setup.sh python             print the Python the environment is made with
#   deploy/setup.sh venv runtime|dev   .venv with the locked packages, hashes checked, and Amends itself
#   deploy/setup.sh bench              what the benchmarks need besides, into .venv as well
#   deploy/setup.sh audit              .venv-audit with pip-audit and cyclonedx-bom
#   deploy/setup.sh servers            rabbitmq-server and postgresql, where they are missing
#   deploy/setup.sh servers prometheus the same, and prometheus with promtool
#   deploy/setup.sh containers         a Docker engine where none answers, and debootstrap for images
#   deploy/setup.sh peers              .venv-peers with the engines that benchmarks compare Amends with
set -eu
cd "$(dirname "$0")/.."
venv=.venv

say() { printf '%s\n' "amends: $*" >&2; }
die() { say "$@"; exit 69; }

# apt-get as root, or through sudo when it asks nothing or there is somebody to ask.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        return 1
    fi
}

may_install() { command -v apt-get >/dev/null && as_root true; }

apt_install() {
    say "installing $* (apt)"
    log=$(mktemp)
    # Package lists may be missing (containers) or too old to download from: refresh them first.
    if as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get update -q && apt-get install -q -y --no-install-recommends "$@"' apt "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        die "apt could not install $* (its words are above); install them, then run make again"
    fi
}

# --- Python ------------------------------------------------------------------------------------------

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed and was not found; install it, or name one: make PYTHON=/path/to/python3.12"
}

make_venv() {
    python=$1
    # Debian splits off what `venv` needs; importing venv succeeds there all the same.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        may_install || die "$python cannot make virtual environments; as root: apt-get install python$version-venv"
        apt_install "python$version-venv"
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv"
    identity $venv/bin/python >$venv/home
}

# Where the environment was made and with what: its scripts hold the path, its packages fit that Python only.
# (A Ctrl-C ends us; a Python that is just starting would print a traceback.)
identity() {
    printf '%s %s\n' "$PWD" "$(trap '' INT && "$1" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])')"
}

# What was installed into it.
fingerprint() { cat "$(lock_of "$1")" pyproject.toml | cksum; }

lock_of() { [ "$1" = dev ] && echo requirements-dev.lock || echo requirements.lock; }

same() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }

setup_venv() {
    case $1 in runtime | dev) lock=$(lock_of "$1") ;; *) die "deploy/setup.sh venv takes runtime or dev" ;; esac
    # One whose installation was cut short, or that was moved, is not worth mending.
    if [ -e $venv/installing ] || ! [ -x $venv/bin/python ] || ! same $venv/home "$(identity $venv/bin/python)"; then
        python=$(find_python)
        make_venv "$python"
    fi
    # What dev installs is a superset, pinned to the same versions.
    for stamp in dev "$1"; do
        if same $venv/$stamp.stamp "$(fingerprint $stamp)"; then return; fi
    done
    say "installing $(grep -c '^[a-zA-Z0-9]' "$lock") locked packages into $venv"
    : >$venv/installing
    rm -f $venv/*.stamp
    pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
    $pip install --require-hashes --no-deps -r "$lock"
    # The build back end comes from the lock too, so this step reaches for no network.
    $pip install --no-deps --no-build-isolation --no-index --editable .
    fingerprint "$1" >$venv/"$1".stamp
    rm -f $venv/installing
}

# --- Servers for tests -------------------------------------------------------------------------------

exists() { for path in "$@"; do if [ -e "$path" ]; then return; fi; done; false; }
has_rabbitmq() { exists /usr/lib/rabbitmq/lib/*/sbin /opt/rabbitmq/sbin || command -v rabbitmq-server >/dev/null; }
has_prometheus() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }
has_postgres() { exists /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres || command -v postgres >/dev/null; }

setup_servers() {
    wanted=
    [ -n "${TEST_AMQP_URL:-}" ] || has_rabbitmq || wanted="rabbitmq-server"
    [ -n "${TEST_DATABASE_URL:-}" ] || has_postgres || wanted="${wanted:+$wanted }postgresql"
    case $1 in
        "") ;;
        prometheus) has_prometheus || wanted="${wanted:+$wanted }prometheus" ;;
        *) die "deploy/setup.sh servers takes prometheus, or nothing" ;;
    esac
    [ -n "$wanted" ] || return 0
    may_install || die "$wanted is needed and not installed. Either install them (Debian: apt-get install $wanted)," \
        "or let TEST_AMQP_URL and TEST_DATABASE_URL (make up: AMQP_URL, DATABASE_URL) name running ones"
    trap 'quiet_end' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    quiet_begin
    # shellcheck disable=SC2086 # a list of package names
    apt_install $wanted
    # Installed for their programs, not for services: they should not come up at the next boot either. (PostgreSQL's
    # unit starts nothing as long as there is no cluster.)
    for service in $wanted; do
        [ "$service" = postgresql ] || ! command -v systemctl >/dev/null || as_root systemctl --quiet disable "$service"
    done
}

# Debian starts a service the moment it is installed, and makes a database cluster for it. The tests start servers of
# their own, so both are held back for as long as the installation takes.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/amends.conf
ours=

quiet_begin() {
    if [ ! -e $policy ]; then
        ours="$ours $policy"
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    fi
    if [ ! -e $cluster ]; then
        ours="$ours $cluster"
        as_root sh -c "mkdir -p $(dirname $cluster) && echo 'create_main_cluster = false' >$cluster"
    fi
}

quiet_end() {
    # shellcheck disable=SC2086 # a list of paths
    [ -z "$ours" ] || as_root rm -f $ours
}

# --- A container engine ------------------------------------------------------------------------------

setup_containers() {
    # One that answers is used as it is, and pulls its images.
    if docker version >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then return 0; fi
    wanted=
    [ -x /usr/sbin/dockerd ] || command -v dockerd >/dev/null || wanted="docker.io"
    command -v debootstrap >/dev/null || wanted="${wanted:+$wanted }debootstrap"
    [ -n "$wanted" ] || return 0
    may_install || die "a Docker engine with Compose 2 is needed: start one, or as root: apt-get install $wanted"
    trap 'quiet_end' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    quiet_begin
    # shellcheck disable=SC2086 # a list of package names
    apt_install $wanted
}

# --- Peers for the benchmarks ------------------------------------------------------------------------

setup_bench() {
    wanted=$(cksum <requirements-bench.lock)
    # A new .venv has no stamp.
    if same $venv/bench.stamp "$wanted"; then return; fi
    say "installing $(grep -c '^[a-zA-Z0-9]' requirements-bench.lock) locked packages for benchmarks into $venv"
    $venv/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps \
        -r requirements-bench.lock || die "pip could not install them (its words are above)"
    printf '%s\n' "$wanted" >$venv/bench.stamp
}

setup_audit() {
    wanted=$(cksum <requirements-audit.lock)
    if same .venv-audit/audit.stamp "$wanted"; then return; fi
    say "installing $(grep -c '^[a-zA-Z0-9]' requirements-audit.lock) locked packages into .venv-audit"
    rm -rf .venv-audit
    "$(find_python)" -m venv .venv-audit
    .venv-audit/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps \
        -r requirements-audit.lock || die "pip could not install them (its words are above)"
    printf '%s\n' "$wanted" >.venv-audit/audit.stamp
}

# A failure here is not the end: the program says of each peer whether it was measured, and why not.
setup_peers() {
    peers=.venv-peers
    lists="benchmarks/peers/requirements.txt benchmarks/peers/package-lock.json"
    # shellcheck disable=SC2086 # a list of paths
    wanted=$(cat $lists | cksum)
    if same $peers/peers.stamp "$wanted"; then return; fi
    say "installing what Amends is compared with into $peers"
    rm -rf $peers
    "$(find_python)" -m venv $peers
    $peers/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps \
        -r benchmarks/peers/requirements.txt || { say "pip could not install the peers (its words are above)"; return; }
    command -v npm >/dev/null || { say "npm is not here, so Restate's server is not (Debian: apt-get install npm)"; return; }
    cp benchmarks/peers/package.json benchmarks/peers/package-lock.json $peers/
    # No scripts: the package brings its program along, and what it would run only reports the installation.
    npm ci --prefix $peers --ignore-scripts --no-audit --no-fund --silent ||
        { say "npm could not install Restate's server (its words are above)"; return; }
    printf '%s\n' "$wanted" >$peers/peers.stamp
}

case "${1:-}" in
    python) find_python ;;
    venv) setup_venv "${2:-}" ;;
    servers) setup_servers "${2:-}" ;;
    containers) setup_containers ;;
    bench) setup_bench ;;
    peers) setup_peers ;;
    audit) setup_audit ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
