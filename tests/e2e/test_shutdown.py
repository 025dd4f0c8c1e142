#!/usr/bin/env python3
"""A node under valgrind takes part, answers, and ends with every byte given back; one that cannot
start says why."""
import os, subprocess

from mesh import Mesh, isolate, say, wait_until


def main():
    isolate()
    with Mesh() as mesh:
        first, last = mesh.nodes[0], mesh.nodes[3]
        last.signal(15)
        kinds = b"-leak-kinds=definite,indirect,possible"
        last.argv = [b"valgrind", b"--quiet", b"--leak-check=full", b"--show" + kinds,
                     b"--errors-for" + kinds, b"--error-exitcode=99", b"--num-callers=30",
                     *last.argv]
        last.start()
        last.wait_ready(120)
        for i in range(5):
            last.request("POST", "/v1/assets", {"kind": "service", "name": f"under-{i}"}, timeout=60)
        content = last.request("POST", "/v1/content", b"x" * 300000, timeout=60)
        made = last.request("POST", "/v1/assets", {"kind": "data", "name": "content",
                                                   "policy": "public", "content": content},
                            timeout=60)
        wait_until("its asset is everywhere", 30, lambda: "content" in first.assets())
        path = f"/v1/assets/{made['asset']}/content"
        assert first.get(path, raw=True) == last.get(path, raw=True) == b"x" * 300000
        last.get("/metrics", raw=True)
        last.signal(15)
        status = [p.wait() for p in mesh.children if p.pid == last.pid]
        assert status == [0], f"exit {status}\n" + last.log()[-8000:]
        say("no leak, no error")
        with open(os.path.join(last.dir, "ledger/data.mdb"), "r+b") as f:
            f.write(b"damaged " * 1000)
        p = subprocess.run(last.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        assert p.returncode == 1 and "/ledger cannot be opened" in p.stdout, p
        say(p.stdout.strip())


main()
