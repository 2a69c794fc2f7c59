#!/bin/sh
# Plants each bug of this directory in a copy of the tree and runs the simulation over it, which must fail.
# Prints one line a mutant; exits 1 if any was not caught.
#
# Only what the simulation drives is built (shared, disk, history, the agent's lane and spool, the collector's ingest
# core), in a small workspace over the copy, so that a mutant costs seconds.
#
#   tests/mutants/run.sh [NAME...]            these mutants only
#   PITWATCH_MUTANTS_DIR=DIR                  where the copy and its build are (target/mutants)
#   PITWATCH_SIM_SEEDS=n                      seeds a mutant may survive (2,000)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seeds=${PITWATCH_SIM_SEEDS:-2000}
work=${PITWATCH_MUTANTS_DIR:-$root/target/mutants}
tree=$work/tree
log=$work/log

copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/tests"
    cp "$root/Cargo.toml" "$root/Cargo.lock" "$tree"
    cp -R "$root/shared" "$tree"
    mkdir -p "$tree/agent" "$tree/collector/src"
    cp -R "$root/agent/src" "$tree/agent"
    cp -R "$root/collector/history" "$tree/collector"
    cp -R "$root/collector/src/ingest" "$tree/collector/src"
    cp -R "$root/tests/suites" "$tree/tests"
}

# The copy's agent, collector and tests become packages of only the modules that the simulation drives.
slim_down() {
    sed -i '/^members = \[/,/]$/d; /^exclude/d' "$tree/Cargo.toml"
    sed -i 's|^\[workspace\]$|&\nmembers = ["agent", "collector", "collector/history", "shared", "shared/disk", "tests"]|' "$tree/Cargo.toml"
    manifest agent "bytes crc32fast pitwatch-disk pitwatch-shared"
    manifest collector "pitwatch-history pitwatch-shared"
    manifest tests "bytes fastrand pitwatch-agent pitwatch-collector pitwatch-disk pitwatch-history pitwatch-shared"
    printf '[[test]]\nname = "simulation"\npath = "suites/simulation.rs"\n' >>"$tree/tests/Cargo.toml"
    mkdir -p "$tree/tests/src"
    : >"$tree/tests/src/lib.rs"
    printf 'pub mod events;\npub mod lane;\npub mod spool;\n' >"$tree/agent/src/lib.rs"
    # Of the events only the lane: what finds them looks at the host.
    sed -i '/^mod \(boot\|kernel\|mounts\);$/d; /mod \(noticed\|watch\);$/d; /^pub use self::watch/d' "$tree/agent/src/events.rs"
    rm -f "$tree/agent/src/main.rs"
    printf 'pub mod ingest {\n    pub mod core;\n}\npub use pitwatch_shared::error_chain;\n' >"$tree/collector/src/lib.rs"
}

manifest() {
    {
        printf '[package]\nname = "pitwatch-%s"\nversion.workspace = true\nedition.workspace = true\n\n[dependencies]\n' "$1"
        for dependency in $2; do echo "$dependency.workspace = true"; done
        echo
    } >"$tree/$1/Cargo.toml"
}

simulate() {
    (
        cd "$tree"
        CARGO_TARGET_DIR=$work/target RUST_BACKTRACE=0 PITWATCH_SIM_SEEDS=$seeds \
            cargo test -q -p pitwatch-tests --test simulation -- --nocapture everything
    ) >"$log" 2>&1
}

copy_tree
slim_down
if ! simulate; then
    cat "$log"
    echo "the simulation fails without any mutant"
    exit 1
fi
echo "no mutant: $seeds seeds pass"

missed=0
for patch in "$here"/*.patch; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ] && ! echo " $* " | grep -q " $name "; then continue; fi
    copy_tree
    (cd "$tree" && patch -p1 -s -f --no-backup-if-mismatch <"$patch")
    slim_down
    if simulate; then
        echo "$name: NOT CAUGHT in $seeds seeds"
        missed=1
    elif found=$(grep -m1 '^seed [0-9]*: ' "$log"); then
        echo "$name: caught by $found"
    else
        cat "$log"
        echo "$name: does not build or run"
        missed=1
    fi
done
exit $missed
