#!/bin/sh
# The benchmarks of docs/benchmarks/spine.md and agent.md, on this machine, on release programs beside one another:
#   make bench        builds them, then runs this
# Prints tables, writes nothing, needs no network but loopback, takes about 15 minutes. Larger or smaller:
#   AGENTS=1,1000 SECONDS_EACH=15 BREACHES=60 tests/bench.sh
# A recording of a real host (zstd, scrapes in the text format after a line `# T <unix ms>` each) for the trial of
# 1,000 hosts: REPLAY=file tests/bench.sh
set -eu
cd "$(dirname "$0")/.."
bin=${BIN:-target/release}
agents=${AGENTS:-1,1000,10000}
secs=${SECONDS_EACH:-30}

echo "## Machine"
echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo
echo "## One real agent"
if [ -x target/dist/pitwatch-agent ]; then
  "$bin/pitwatch-wire" --seconds "$secs" --blocks --agent target/dist/pitwatch-agent
else
  echo "(not the packaged agent: cargo build --profile dist -p pitwatch-agent makes it)"
  "$bin/pitwatch-wire" --seconds "$secs" --blocks
fi
echo "## The agent beside node_exporter, vmagent, collectd and netdata"
agent="$bin/pitwatch-agent"
[ -x target/dist/pitwatch-agent ] && agent=target/dist/pitwatch-agent
"$bin/pitwatch-cost" --seconds "$secs" --agent "$agent"
echo "## The same on a host of 2,000 processes and 200 mounts (in namespaces of its own, as root)"
"$bin/pitwatch-cost" --seconds "$secs" --agent "$agent" --processes 2000 --mounts 200 || echo "(no namespaces)"
echo "## Gathering, on a host of 2,000 processes and 200 mounts (in namespaces of its own, as root)"
mounts=$(mktemp -d)
unshare --mount --pid --fork --mount-proc sh -c '
  for i in $(seq 200); do mkdir "$0/$i"; mount -t tmpfs -o size=64k none "$0/$i"; done
  "$1/examples/gather_cost" 1000 2000; for i in $(seq 200); do umount "$0/$i"; done' "$mounts" "$bin" || echo "(no namespaces)"
rm -r "$mounts"
echo "## Breach to webhook"
"$bin/pitwatch-latency" --breaches "${BREACHES:-200}"
echo "## Fleet: connections"
"$bin/pitwatch-fleet" --agents "$agents" --series "${SERIES:-50}" --seconds "$secs"
echo "## Fleet: 1,000 hosts of 500 series, stock rules on"
if [ -n "${REPLAY:-}" ]; then
  "$bin/pitwatch-fleet" --agents 1000 --series 600 --seconds "$secs" --no-restarts --replay "$REPLAY"
else
  "$bin/pitwatch-fleet" --agents 1000 --series 500 --seconds "$secs" --no-restarts
fi
