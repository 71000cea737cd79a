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
    iproute2 nftables tcpdump procps curl openssl python3 util-linux \
    chromium python3-prometheus-client

if [ -z "${VIPD_CORPUS:-}" ]; then
    echo "tests: VIPD_CORPUS is not set: the tests over a folder of real configurations are left out"
    VIPD_CORPUS=skip
fi
export VIPD_CORPUS
cargo build --workspace --all-targets
failed=
cargo test --workspace --exclude netns-tests --no-fail-fast || failed="$failed rooms"

# These measure real time on hosts that share this computer. One that fails is told again, alone, once: what fails
# twice is a fault, what fails once is shown above and worth a look.
for file in netns-tests/tests/*.rs; do
    scenario=$(basename "$file" .rs)
    cargo test -p netns-tests --test "$scenario" && continue
    echo "tests: $scenario failed, once more"
    cargo test -p netns-tests --test "$scenario" || failed="$failed $scenario"
done
cargo test -p netns-tests --lib || failed="$failed netns-tests"
netns-tests/leftovers || failed="$failed leftovers"

if [ -n "$failed" ]; then
    echo "tests: failed:$failed"
    exit 1
fi
echo "tests: all passed"
