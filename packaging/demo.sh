#!/bin/sh
# See it work: builds vipd and runs the demonstration. Needs no configuration and no root.
set -eu
cd "$(dirname "$0")/.."
. packaging/setup.sh
echo "demo: building vipd; the first time this takes about five minutes on two processors" >&2
exec cargo run --release --bin vipd -- demo "$@"
