#!/bin/sh
# See it work: builds vipd and runs the demonstration. Needs no configuration and no root.
set -eu
cd "$(dirname "$0")/.."
. packaging/setup.sh
exec cargo run --quiet --release --bin vipd -- demo "$@"
