#!/usr/bin/env bash
# The picture of the README: the board of `smpo demo --out DIR`, by chromium.
#
#   docs/images/board.sh DIR
set -euo pipefail
page=$(realpath "$1/leaderboard/index.html")
picture=$(realpath "$(dirname "$0")")/board.png
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
  --virtual-time-budget=5000 --window-size=1200,1000 --screenshot="$picture" "file://$page" 2>/dev/null
test -s "$picture"
