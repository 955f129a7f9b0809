#!/usr/bin/env bash
# Mutation testing by cargo-mutants: every SAMPLE-th mutant of each scope, or all with SAMPLE=1. Survivors are killed by a test, or
# argued equivalent in .cargo/mutants.toml. docs/reliability.md has the results.
#
#   .ci/mutants                 # all scopes
#   .ci/mutants gate chat       # these
#   SAMPLE=1 .ci/mutants judge  # all mutants of one
set -uo pipefail
cd "$(dirname "$0")/.."

# scope | package | files | sampled: every nth | tests
scopes='
stats      | smpo-stats   | **                                                       | 20  | --lib --test by_hand --test golden --test properties --test published
gate       | smpo-gate    | **                                                       | 30  | --lib --test any_runs --test directories --test numbers --test policies --test ranking --test verdicts
chat       | smpo-chat    | **                                                       | 14  | --lib --tests
metrics    | smpo-metrics | **                                                       | 20  | --lib
losses     | smpo-losses  | **                                                       | 100 | --lib --tests
truncation | smpo-data    | **/truncation.rs                                         | 1   | --lib
judge      | smpo-trainer | **/early_stopping.rs **/retention.rs **/alarm.rs         | 6   | --lib
'

mkdir -p target/mutants
failed=0
while IFS='|' read -r scope package files nth tests; do
  scope=${scope// /} package=${package// /} nth=${nth// /}
  [ -n "$scope" ] || continue
  [ $# -eq 0 ] || [[ " $* " == *" $scope "* ]] || continue
  arguments=()
  set -f
  for file in $files; do arguments+=(--file "$file"); done
  for test in $tests; do arguments+=("--cargo-arg=$test"); done
  set +f
  PROPTEST_CASES=${PROPTEST_CASES:-32} cargo mutants --package "$package" "${arguments[@]}" --shard "0/${SAMPLE:-$nth}" --sharding round-robin \
    --timeout 90 --output "target/mutants/$scope" </dev/null || failed=1
done <<<"$scopes"
exit $failed
