#!/usr/bin/env python3
"""A node under valgrind takes part, answers, and ends with every byte given back; one that cannot
start says why."""
import os, shutil, subprocess

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
        last.wait_ready(400)
        for i in range(5):
            last.request("POST", "/v1/assets", {"kind": "service", "name": f"under-{i}"},
                         timeout=300)
        content = last.request("POST", "/v1/content", b"x" * 300000, timeout=300)
        made = last.request("POST", "/v1/assets", {"kind": "data", "name": "content",
                                                   "policy": "public", "content": content},
                            timeout=300)
        wait_until("its asset is everywhere", 120, lambda: "content" in first.assets())
        path = f"/v1/assets/{made['asset']}/content"
        assert first.get(path, raw=True) == last.get(path, raw=True) == b"x" * 300000
        for what in (f"/v1/assets/{made['asset']}/chunks", f"/v1/operations/{made['op']}/proofs",
                     "/v1/operations", "/v1/nodes"):
            last.get(what, timeout=300)
        last.get("/metrics", raw=True)
        by_http3 = ["curl", "-gsS", "-m", "300", "--http3-only", "--cacert", mesh.ca]
        back = subprocess.run([*by_http3, last.url + path], check=True, stdout=subprocess.PIPE)
        assert back.stdout == b"x" * 300000
        bearer = "Authorization: Bearer " + mesh.token(last)
        subprocess.run([*by_http3, "-f", "-H", bearer, "--data-binary", "@-", "-o", os.devnull,
                        last.url + "/v1/content"], input=b"y" * 300000, check=True)
        events = subprocess.Popen([*by_http3, "-N", last.url + "/v1/events"],
                                  stdout=subprocess.PIPE)
        events.stdout.readline()
        last.signal(15)
        status = [p.wait() for p in mesh.children if p.pid == last.pid]
        assert status == [0], f"exit {status}\n" + last.log()[-8000:]
        events.communicate()
        assert events.returncode == 0 # its stream was ended whole
        say("no leak, no error")
        def refused(argv, code, words):
            p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            assert p.returncode == code and words in p.stdout, p
            say(p.stdout.strip())

        plain = last.argv[last.argv.index(b"--num-callers=30") + 1:]
        with open(f"/proc/{first.pid}/cmdline", "rb") as f:
            refused(f.read().split(b"\0")[:-1], 1, "in use by another process")
        def on(flag, addr):
            argv = list(plain)
            argv[argv.index(flag) + 1] = addr
            return argv
        taken = ": another program has this port"
        refused(on(b"--mesh-listen", b"[::1]:9293"), 2, "cannot listen on UDP [::1]:9293" + taken)
        refused(on(b"--mesh-listen", b"[::]:9293"), 2, "cannot listen on UDP [::]:9293" + taken)
        refused(on(b"--api-listen", b"[::1]:8444"), 2, "cannot listen on TCP [::1]:8444" + taken)
        # By HTTP/3 the API needs the same port of UDP.
        refused(on(b"--api-listen", b"[::1]:9293"), 2, "cannot listen on UDP [::1]:9293" + taken)
        os.rename(os.path.join(last.dir, "votes.wal"), os.path.join(mesh.dir, "votes.wal"))
        refused(plain, 1, "votes.wal is gone")
        os.rename(os.path.join(mesh.dir, "votes.wal"), os.path.join(last.dir, "votes.wal"))
        data = os.path.join(last.dir, "ledger/data.mdb")
        verify = [plain[0], b"verify", b"--dir", last.dir]
        shutil.copy(data, data + ".kept")
        os.truncate(data, os.path.getsize(data) // 2)
        refused(plain, 1, "data.mdb was cut short")
        refused(verify, 1, "data.mdb was cut short")
        os.truncate(data, 0)
        refused(plain, 1, "data.mdb is gone or empty")
        refused(verify, 1, "there is no ledger")
        os.unlink(data)
        refused(plain, 1, "data.mdb is gone or empty")
        os.rename(data + ".kept", data)
        last.argv = plain
        last.start()
        last.wait_ready()
        last.signal(15)
        with open(data, "r+b") as f:
            f.write(b"damaged " * 1000)
        refused(plain, 1, "/ledger cannot be opened")


main()
