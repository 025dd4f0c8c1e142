#!/usr/bin/env python3
"""deploy-dev.sh builds the page when a source has changed, and only then."""
import os

from deploys import run
from mesh import ROOT, Mesh, isolate


def main():
    isolate()
    mesh = Mesh()
    args = ["--dir", mesh.dir]
    env = {k: v for k, v in os.environ.items() if k != "HM_BUILD"}
    os.utime(os.path.join(ROOT, "dashboard/src/main.ts"))
    run(0, *args, env=env, says=["page: done"])
    run(0, *args, env=env, says=["build: done"], hides=["page: done"])
    assert os.path.exists(os.path.join(ROOT, "dashboard/dist/index.html"))
    run(0, *args, "--clean", says=["is gone"])


main()
