#!/usr/bin/env bash
# Builds the page into dashboard/dist.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/npm-install.sh dashboard
npm --prefix dashboard run --silent build
