#!/bin/sh
# Prove it works: installs what the tests need, builds, and runs every test. About 25 minutes on two cores.
#
# VIPD_CORPUS  folder with real configurations to try (wild/keepalived/*.conf, maintainer/*.conf).
#              Without it the tests over that folder are left out, and this script says so.
set -eu
cd "$(dirname "$0")/.."
. packaging/setup.sh

# The real peers, and the tools that watch them.
install_packages keepalived frr haproxy nginx libnginx-mod-stream etcd-server etcd-client \
    iproute2 nftables tcpdump procps curl openssl python3 util-linux systemd \
    chromium python3-prometheus-client postgresql redis-server dnsmasq-base

if [ -z "${VIPD_CORPUS:-}" ]; then
    echo "tests: VIPD_CORPUS is not set: the tests over a folder of real configurations are left out"
    VIPD_CORPUS=skip
fi
export VIPD_CORPUS
cargo build --workspace --all-targets
failed=
cargo test --workspace --exclude netns-tests --no-fail-fast || failed="$failed rooms"

# These measure real time on hosts that share this computer. A test that fails is told again, alone, once: what fails twice
# is a fault, what fails once is shown above and worth a look.
told=$(mktemp)
trap 'rm -f "$told"' EXIT
for file in netns-tests/tests/*.rs; do
    scenario=$(basename "$file" .rs)
    if { cargo test -p netns-tests --test "$scenario" --no-fail-fast 2>&1 && echo "tests: $scenario passed"; } | tee "$told" &&
        tail -n 1 "$told" | grep -qx "tests: $scenario passed"; then
        continue
    fi
    again=$(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$told")
    echo "tests: $scenario: failed, once more:" ${again:-everything}
    # shellcheck disable=SC2086  # names of tests are words
    cargo test -p netns-tests --test "$scenario" -- --exact $again || failed="$failed $scenario"
done
cargo test -p netns-tests --lib || failed="$failed netns-tests"
netns-tests/leftovers || failed="$failed leftovers"

if [ -n "$failed" ]; then
    echo "tests: failed:$failed"
    exit 1
fi
echo "tests: all passed"
