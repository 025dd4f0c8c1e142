#!/usr/bin/env python3
"""deploy-dev.sh: a start that was killed is begun again while what it left is still at work, and a
mesh is not deleted under the programs of another build."""
import os, signal, subprocess

from mesh import ROOT, Mesh, isolate, say, wait_until

SCRIPT = os.path.join(ROOT, "deploy-dev.sh")


def killed(mesh):
    """At each of its first steps, as soon as that is under way."""
    for sign in ("trustchain", "node-1", "node-2/node.key", "node-4/node.ini"):
        p = subprocess.Popen([SCRIPT, "--no-build", "--dir", mesh.dir, "--nodes", "4"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        wait_until(sign, 60, lambda s=sign: os.path.exists(os.path.join(mesh.dir, s)))
        p.send_signal(signal.SIGKILL)
        p.wait()
    mesh.up()
    mesh.agree()
    say("begun again after being killed four times")


def main():
    isolate()
    mesh = Mesh()
    killed(mesh)
    pids = [n.pid for n in mesh.nodes]
    p = subprocess.run([SCRIPT, "--no-build", "--dir", mesh.dir, "--clean"], text=True,
                       env=dict(os.environ, HM_BUILD="build-of-another-name"),
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert p.returncode == 0 and "node-4" in p.stdout, p
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                assert f.read().rsplit(")", 1)[1].split()[0] == "Z", f"{pid} runs on"
        except FileNotFoundError:
            pass
    assert not os.path.exists(mesh.dir), os.listdir(mesh.dir)
    say("stopped, then deleted")


main()
