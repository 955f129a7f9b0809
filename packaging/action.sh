#!/usr/bin/env bash
# The steps of the GitHub Action (action.yml), for any machine: measures a baseline and a candidate, gates, ranks.
#
# Inputs are variables, empty where a default is wanted:
#   SMPO_BASELINE, SMPO_CANDIDATE  a model (directory, GGUF file, hf://ORG/NAME), an evaluation directory, or files of answers;
#                                  several are separated by line breaks: training seeds of one arm, or files of one model
#   SMPO_SUITE        suite that models are evaluated on                   [ood-smoke]
#   SMPO_POLICY       gate policy                                          [default]
#   SMPO_INCONCLUSIVE pass, fail, or empty for exit code 3
#   SMPO_EVAL_ARGS    further arguments of `smpo eval`, by words
#   SMPO_OUT          directory of everything that is written              [smpo-gate]
#   SMPO              the program                                          [smpo]
#
# Exit code: that of the gate. On GitHub, the step summary, the outputs `verdict`, `exit-code` and `out`, and annotations
# are written too.
set -euo pipefail

smpo=${SMPO:-smpo}
suite=${SMPO_SUITE:-ood-smoke}
policy=${SMPO_POLICY:-default}
out=${SMPO_OUT:-smpo-gate}
read -r -d '' -a eval_args <<< "${SMPO_EVAL_ARGS:-}" || true # words, on one line or several

fail() { echo "::error title=smpo::$1"; exit 2; }

# kind PATH: evaluation, answers or model
kind() {
  if [ -f "$1/run.json" ] && [ -f "$1/samples.jsonl" ]; then echo evaluation
  elif [ -f "$1" ] && [[ "$1" != *.gguf ]]; then echo answers
  else echo model; fi
}

# measured SIDE VALUE: writes the evaluation directories of a side into the array `directories`
measured() {
  local side=$1 entry number=0 answers=()
  directories=()
  while IFS= read -r entry; do
    entry="${entry#"${entry%%[![:space:]]*}"}" entry="${entry%"${entry##*[![:space:]]}"}"
    [ -n "$entry" ] || continue
    case $(kind "$entry") in
      evaluation) directories+=("$entry") ;;
      answers) answers+=("$entry") ;;
      model)
        number=$((number + 1))
        "$smpo" eval "$entry" --suite "$suite" --out "$out/$side-$number" --arm "$side" --name "$side" \
          ${eval_args[@]+"${eval_args[@]}"}
        directories+=("$out/$side-$number") ;;
    esac
  done <<< "$2"
  if [ ${#answers[@]} -gt 0 ]; then
    "$smpo" score "${answers[@]}" --name "$side" --out "$out/$side"
    directories+=("$out/$side")
  fi
  [ ${#directories[@]} -gt 0 ] || fail "$side: expected a model, an evaluation or answers, got nothing"
}

# Before anything is written: a baseline may be empty only by mistake.
[ -n "${SMPO_BASELINE//[[:space:]]/}" ] || fail "baseline: expected a model, an evaluation or answers, got nothing"
[ -n "${SMPO_CANDIDATE//[[:space:]]/}" ] || fail "candidate: expected a model, an evaluation or answers, got nothing"
mkdir -p "$out"
measured baseline "$SMPO_BASELINE"
baseline=("${directories[@]}")
measured candidate "$SMPO_CANDIDATE"
candidate=("${directories[@]}")

gate=(gate --baseline "${baseline[@]}" --candidate "${candidate[@]}" --policy "$policy"
  --out "$out/verdict.json" --junit "$out/junit.xml" --markdown "$out/verdict.md")
[ -z "${SMPO_INCONCLUSIVE:-}" ] || gate+=(--inconclusive "$SMPO_INCONCLUSIVE")
status=0
"$smpo" "${gate[@]}" || status=$?
case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac

"$smpo" leaderboard "${baseline[@]}" "${candidate[@]}" --verdict "$out/verdict.json" --policy "$policy" --title "Model gate" --out "$out/board"
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$out/verdict.md" >> "$GITHUB_STEP_SUMMARY"
verdict=$(sed -n 's/^  "verdict": "\(.*\)",*$/\1/p' "$out/verdict.json" | head -n 1)
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  printf 'verdict=%s\nexit-code=%s\nout=%s\n' "$verdict" "$status" "$out" >> "$GITHUB_OUTPUT"
fi
[ "$status" = 0 ] || echo "::error title=smpo gate::the candidate against the baseline: $verdict (policy $policy)"
exit "$status"
