#!/bin/sh
# Resolve pyproject.toml into requirements.lock (runtime) and requirements-dev.lock (runtime, extras, tools), what
# container images are made of (requirements-image.lock: runtime and extras; requirements-build.lock: what builds
# Amends), and what some programs need besides: requirements-bench.lock (pictures), requirements-audit.lock (what is
# known of the packages) and benchmarks/peers (other engines).
#
#   deploy/lock.sh             keep what is locked where it still fits
#   deploy/lock.sh --upgrade   take the newest of everything
#
# The files name versions and hashes but no index, so that they install from a mirror as well as from PyPI.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

command -v uv >/dev/null || {
    echo "amends: make lock needs uv; install it, for example: .venv/bin/pip install uv" >&2
    exit 69
}

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" "$@"
}

compile pyproject.toml --group build --output-file requirements.lock "$@"
compile pyproject.toml --all-extras --group build --group dev \
    --constraint requirements.lock --output-file requirements-dev.lock "$@"
compile pyproject.toml --all-extras --constraint requirements-dev.lock --output-file requirements-image.lock "$@"
compile --group build --constraint requirements-dev.lock --output-file requirements-build.lock "$@"
# What follows is installed beside it: the same packages in the same versions.
compile --group bench --constraint requirements-dev.lock --output-file requirements-bench.lock "$@"
compile --group audit --constraint requirements-dev.lock --output-file requirements-audit.lock "$@"
compile benchmarks/peers/requirements.in --output-file benchmarks/peers/requirements.txt "$@"
command -v npm >/dev/null || {
    echo "amends: benchmarks/peers/package-lock.json is left as it was, for want of npm" >&2
    exit 0
}
# Like the others it names no registry.
npm install --prefix benchmarks/peers --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved \
    --no-audit --no-fund --silent
