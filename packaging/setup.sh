#!/bin/sh
# What it takes to build vipd on Debian: a C compiler and linker, and Rust 1.88 or newer.
# Sourced by packaging/demo.sh and tests/all.sh; does nothing where everything is there.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "setup: needs root for: $*" >&2
        echo "setup: run that as root, then this command again" >&2
        exit 1
    fi
}

# Installs the Debian packages among the arguments that are missing.
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "setup: installing$missing"
    as_root apt-get update -q
    # shellcheck disable=SC2086
    # Services that a package would start are not wanted: the tests start their own, in namespaces.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $missing
}

command -v cc >/dev/null || install_packages build-essential
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
if ! command -v cargo >/dev/null; then
    install_packages curl ca-certificates
    echo "setup: installing Rust for this user with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
    . "$HOME/.cargo/env"
fi
