#!/usr/bin/env bash
# docs/configuration.md is what the programs' tables say. $1: config_doc; $2: the page.
set -euo pipefail
"$1" | diff -u "$2" - || {
    echo "FAILED: docs/configuration.md is not current: ninja -C build configuration-doc" >&2
    exit 1
}
