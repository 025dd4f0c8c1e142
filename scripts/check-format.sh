#!/usr/bin/env bash
# Every tracked C file is as clang-format (one version everywhere) writes it. --fix writes it.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(--dry-run -Werror)
[ "${1:-}" = --fix ] && mode=(-i)
git ls-files -z '*.c' '*.h' | xargs -0 -r clang-format-19 --style=file "${mode[@]}"
