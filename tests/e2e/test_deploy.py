#!/usr/bin/env python3
"""deploy-dev.sh: whose folders it takes and what it deletes, what it says of wrong options, a full
disk, another user and a revoked node; a start that was killed is begun again while what it left is
still at work, one that runs is stopped whole, and a mesh is not deleted under the programs of
another build."""
import os, re, signal, subprocess, tempfile

from deploys import SCRIPT, run
from mesh import CLI, Mesh, isolate, say, wait_until


def processes(folder):
    """The numbers of all programs that run on it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                args = f.read().split(b"\0")
        except OSError:
            continue
        if args[1:2] == [b"run"] and any(a.startswith(folder.encode() + b"/") for a in args):
            found.append(pid)
    return found


def options():
    run(2, "--nodes=", says=["a number from 1 to 99"])
    run(2, "--nodes", "", says=["a number from 1 to 99"])
    run(2, "--stop", "--status", says=["usage:"])
    run(2, "--status", "--nodes", "3", says=["--nodes is for a start"])


def folders(tmp):
    own = os.path.join(tmp, "own")
    os.mkdir(own, 0o755)
    thesis = os.path.join(own, "thesis.txt")
    with open(thesis, "w") as f:
        f.write("thesis")
    run(1, "--no-build", "--dir", own, says=["holds other things and no mesh"])
    assert os.listdir(own) == ["thesis.txt"] and os.stat(own).st_mode & 0o777 == 0o755
    run(1, "--dir", own, "--clean", says=["holds no mesh; it stays"])
    run(1, "--dir", own, "--status", says=["holds no mesh"])
    assert os.path.exists(thesis)
    # A foreign folder that happens to have a file of the lock's name.
    open(os.path.join(own, ".lock"), "w").close()
    run(1, "--no-build", "--dir", own, says=["holds other things and no mesh"])
    run(1, "--dir", own, "--clean", says=["holds no mesh; it stays"])
    assert sorted(os.listdir(own)) == [".lock", "thesis.txt"]
    run(0, "--dir", os.path.join(tmp, "never"), "--clean", says=["there is no mesh in"],
        hides=["is gone"])


def full_disk(tmp):
    """Reached through a link, which a clean leaves as it was."""
    disk, link = os.path.join(tmp, "disk"), os.path.join(tmp, "link")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "full", disk], check=True)
    os.symlink(os.path.join(disk, "mesh"), link)
    out = run(1, "--no-build", "--dir", link,
              says=["warning: 6 MiB are left", "no space is left on the disk"])
    assert re.search("FAILED at: .*\n    .*[a-z]", out), out
    with open(os.path.join(disk, "mesh", "own.txt"), "w"):
        pass
    run(0, "--dir", link, "--clean", says=["what else lies there stays: own.txt"])
    assert os.listdir(link) == ["own.txt"]
    os.remove(os.path.join(disk, "mesh", "own.txt"))
    open(os.path.join(disk, "mesh", ".lock"), "w").close()
    run(0, "--dir", link, "--clean", says=["the folder stays, empty"])
    assert os.listdir(link) == []
    subprocess.run(["umount", disk], check=True)


def stopped(mesh):
    """While a start is at work."""
    for sign in ("trustchain.pid", "node-1.pid", "stoq.pid"):
        assert not os.path.exists(os.path.join(mesh.dir, sign))
        p = subprocess.Popen([SCRIPT, "--no-build", "--dir", mesh.dir], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(sign, 120, lambda s=sign: os.path.exists(os.path.join(mesh.dir, s)))
        run(0, "--dir", mesh.dir, "--stop", says=["stopped:"])
        left = processes(mesh.dir)
        assert p.wait() is not None and not left and not processes(mesh.dir), (sign, left)
    say("stopped three times while it started")


def killed(mesh):
    """At each of its first steps, as soon as that is under way."""
    for sign in ("trustchain", "node-1", "node-2/node.key", "node-4/node.ini"):
        p = subprocess.Popen([SCRIPT, "--no-build", "--dir", mesh.dir, "--nodes", "4"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        wait_until(sign, 120, lambda s=sign: os.path.exists(os.path.join(mesh.dir, s)))
        p.send_signal(signal.SIGKILL)
        p.wait()
    mesh.up()
    mesh.agree()
    say("begun again after being killed four times")


def printed(mesh):
    """The lines to copy hold also where the folder has a space in its name."""
    lines = run(0, "--no-build", "--dir", mesh.dir).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("command:"))
    script = "\n".join(line[len("command:   "):] for line in lines[first:first + 3])
    out = subprocess.run(["bash", "-euc", script + """
        cat "$HYPERMESH_TOKEN_FILE" >/dev/null"""], text=True, stdout=subprocess.PIPE, check=True)
    assert "node-1" in out.stdout, out


def told(mesh):
    """What a status says of a node whose number is lost, and to another user."""
    os.remove(mesh.nodes[1].dir + ".pid")
    run(0, "--dir", mesh.dir, "--status", hides=["down"])
    run(0, "--no-build", "--dir", mesh.dir)
    assert mesh.nodes[1].alive()
    other = ["runuser", "-u", "nobody", "--", "env", "-C", "/"]
    if subprocess.run([*other, "test", "-x", SCRIPT], stderr=subprocess.DEVNULL).returncode != 0:
        say("not looked at as another user, who does not get to " + SCRIPT)
        return
    run(1, "--dir", mesh.dir, "--status", script=[*other, SCRIPT], says=["Permission denied"],
        hides=["nothing is here"])
    os.chmod(os.path.dirname(mesh.dir), 0o755)
    for action in (["--status"], ["--stop"], ["--clean"], ["--no-build"]):
        run(1, "--dir", mesh.dir, *action, script=[*other, SCRIPT], says=["is another user's"])
    assert all(n.alive() for n in mesh.nodes)


def revoked(mesh):
    node = mesh.nodes[3]
    crt = os.path.join(node.dir, "node.crt")
    serial = subprocess.run(["openssl", "x509", "-in", crt, "-noout", "-serial"], text=True,
                            stdout=subprocess.PIPE, check=True).stdout
    env = dict(os.environ, HYPERMESH_AUTHORITY="https://[::1]:8443", HYPERMESH_CA=mesh.ca,
               HYPERMESH_TOKEN_FILE=os.path.join(mesh.dir, "trustchain/api.token"))
    subprocess.run([CLI, "cert", "revoke", serial.strip().split("=")[1].lower(), "--reason",
                    "superseded"], env=env, check=True, stdout=subprocess.DEVNULL)
    why = ["node-4's certificate is revoked", "delete " + crt]
    run(1, "--no-build", "--dir", mesh.dir, says=why)
    run(0, "--dir", mesh.dir, "--stop")
    run(1, "--no-build", "--dir", mesh.dir, says=why)
    # And what it advises helps.
    run(0, "--dir", mesh.dir, "--stop")
    os.remove(crt)
    mesh.up()
    mesh.agree()
    say("a revoked node is told, and enrolled anew")


def main():
    isolate()
    options()
    with tempfile.TemporaryDirectory(prefix="hm-e2e-") as tmp:
        folders(tmp)
        full_disk(tmp)
    say("takes and deletes only what is its own")
    mesh = Mesh()
    for node in mesh.nodes:
        node.dir = os.path.join(mesh.dir, "a mesh", node.name)
    mesh.dir = os.path.join(mesh.dir, "a mesh")
    stopped(mesh)
    run(0, "--dir", mesh.dir, "--clean", says=["is gone"])
    killed(mesh)
    printed(mesh)
    told(mesh)
    revoked(mesh)
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
    os.rmdir(os.path.dirname(mesh.dir))
    say("stopped, then deleted")


main()
