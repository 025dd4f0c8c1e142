#!/usr/bin/env python3
"""A node whose disk is full says so and stops; the others go on; with room again it comes back with
nothing lost. Its disk is a small file system in memory, in this test's own mount namespace."""
import os, subprocess

from mesh import Mesh, isolate, say, wait_until

MB = 1 << 20


def fill(path, leave):
    """A file that leaves so many bytes."""
    s = os.statvfs(os.path.dirname(path))
    with open(path, "ab") as f:
        if s.f_bavail * s.f_frsize > leave:
            os.posix_fallocate(f.fileno(), 0, s.f_bavail * s.f_frsize - leave)


def main():
    isolate()
    with Mesh() as mesh:
        first, last = mesh.nodes[0], mesh.nodes[3]
        last.signal(15)
        kept = last.dir + ".kept"
        os.rename(last.dir, kept)
        os.mkdir(last.dir)
        size = int(subprocess.check_output(["du", "-sm", kept]).split()[0]) + 32
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0700", "tmpfs", last.dir],
                       check=True)
        subprocess.run(["cp", "-a", kept + "/.", last.dir], check=True)
        filler = os.path.join(last.dir, "filler")
        last.start()
        last.wait_ready()
        lines = len(last.log().splitlines())
        fill(filler, MB)
        made = []

        def more():
            made.append(f"full-{len(made)}")
            first.request("POST", "/v1/assets", {"kind": "service", "name": made[-1]})
            return not last.alive()
        wait_until("the node whose disk is full stops", 300, more)
        new = last.log().splitlines()[lines:]
        assert any("no space left" in x for x in new), new
        say(next(x for x in new if "no space left" in x)[25:])
        # It does not start either, and says why.
        fill(filler + "-2", 0)
        p = subprocess.run(last.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=300)
        assert p.returncode > 0 and "no space left" in p.stdout, p
        say(p.stdout.splitlines()[-1])
        os.unlink(filler)
        os.unlink(filler + "-2")
        last.start()
        last.wait_ready()
        mesh.agree()
        assert set(made) <= set(last.assets())
        say(f"{len(made)} operations are on the node that was full")


main()
