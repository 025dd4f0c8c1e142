#!/usr/bin/env python3
"""A layer includes only headers of itself and of layers below it; no file is over its size."""
import pathlib
import re
import subprocess
import sys

LAYERS = ["base", "crypto", "stoq", "trustchain", "libstoq", "dns", "mesh", "catalog", "caesar",
          "ngauge", "server", "cli"]
PUBLIC = {"hypermesh/base.h": "base", "hypermesh/stoq.h": "stoq", "hypermesh/stoq_group.h": "stoq",
          "hypermesh/stoq_bundle.h": "stoq",
          "hypermesh/stoq_tls.h": "libstoq"}
MAX_LINES = 900

root = pathlib.Path(__file__).resolve().parent.parent
bad = 0
files = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=root, check=True, text=True,
                       stdout=subprocess.PIPE).stdout.split()
for name in files:
    text = (root / name).read_text()
    lines = text.count("\n")
    if lines > MAX_LINES:
        print(f"{name}: {lines} lines; a file has one idea and at most {MAX_LINES} lines")
        bad += 1
    parts = pathlib.Path(name).parts
    if parts[0] != "src" or parts[1] not in LAYERS:
        continue
    own = LAYERS.index(parts[1])
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+[<"]([^">]+)[">]', line)
        if not m:
            continue
        layer = PUBLIC.get(m[1], m[1].split("/")[0])
        if layer in LAYERS and LAYERS.index(layer) > own:
            print(f"{name}:{number}: {parts[1]} includes {m[1]}, which is above it")
            bad += 1
sys.exit(1 if bad else 0)
