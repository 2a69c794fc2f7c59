#!/bin/sh
# Builds every fuzz target with the stable compiler, instrumented for libFuzzer, and runs each for some time.
# Prints one line a target; exits 1 if any fails, with the input that did it in tests/fuzz/artifacts.
#
#   tests/fuzz/run.sh [TARGET...]         these targets only
#   PITWATCH_FUZZ_SECONDS=n               how long each runs (60)
#
# `cargo fuzz run TARGET` does the same with a nightly compiler, and with AddressSanitizer.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
seconds=${PITWATCH_FUZZ_SECONDS:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
# Most bytes that a target may hold: what it parses is bounded, and so must be what it keeps.
rss_mb=2048

# What cargo-fuzz sets, but for the sanitizer, which only nightly compilers have. The target is named so that build
# scripts and procedural macros are left as they are.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=4" \
    cargo build --quiet --release --target "$host" --bins

targets=$*
[ -n "$targets" ] || targets=$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v '^pitwatch-fuzz$' | sort)
failed=0
for target in $targets; do
    mkdir -p "corpus/$target" artifacts
    log=artifacts/$target.log
    if "target/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=$rss_mb \
        -artifact_prefix="artifacts/$target-" -print_final_stats=1 "corpus/$target" >"$log" 2>&1; then
        cov=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "$target: $runs runs, $cov"
    else
        echo "$target: FAILED; artifacts/$target.log"
        grep -E "panicked|ERROR|Test unit written" "$log" | head -5
        failed=1
    fi
    rm -rf "/dev/shm/pitwatch-fuzz-$target-"*
done
exit $failed
