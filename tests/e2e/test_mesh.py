#!/usr/bin/env python3
"""A mesh of four that loses nodes while files are imported.

usage: test_mesh.py [DIR [DIR2]]   DIR: imported while one node is killed (default
/usr/include/linux); DIR2: while all are (default /usr/include/c++).
"""
import json, os, re, signal, subprocess, sys, threading, time

from mesh import Mesh, Node, Refused, isolate, say, wait_until


def files_below(root):
    for at, _, names in os.walk(root):
        for name in names:
            path = os.path.join(at, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, root), path


def no_ipv4():
    out = subprocess.run(["ss", "-Hlntu4"], capture_output=True, text=True, check=True).stdout
    assert out == "", f"IPv4 sockets listen:\n{out}"
    six = subprocess.run(["ss", "-Hlntu6"], capture_output=True, text=True, check=True).stdout
    assert len(six.splitlines()) >= 9, six


def read_back(node, root):
    """Every file below root is an asset of its content, read from this node byte for byte."""
    assets = node.assets()
    count = size = 0
    for name, path in files_below(root):
        with open(path, "rb") as f:
            want = f.read()
        have = node.get(f"/v1/assets/{assets[name]['id']}/content", raw=True)
        assert have == want, f"{name}: another content ({len(have)} bytes for {len(want)})"
        count, size = count + 1, size + len(want)
    assert count > 0
    say(f"{count} files, {size} bytes read back through {node.name}")


def import_with_one_killed(mesh, root):
    first, last = mesh.nodes[0], mesh.nodes[3]
    total = sum(1 for _ in files_below(root))
    before = first.get("/v1/status")["ops_final"]
    began = time.monotonic()
    p = mesh.cli_begin(first, "asset", "import", "--json", "--policy", "public", root)
    wait_until("a third of the files", 300,
               lambda: first.get("/v1/status")["ops_final"] - before > total / 3)
    p.send_signal(signal.SIGSTOP) # what it has asked goes on; it does not come to its end meanwhile
    last.kill()
    assert p.poll() is None, "the import ended before the node was killed"
    done = first.get("/v1/status")["ops_final"] - before
    say(f"{last.name} killed after {done} of {total} files")
    p.send_signal(signal.SIGCONT)
    out, err = p.communicate()
    assert p.returncode == 0, f"import: exit {p.returncode}\n{out}{err}"
    said = json.loads(out)
    assert said["imported"] + said["there_already"] == total and said["failed"] == 0, out
    say(f"{total} files imported in {time.monotonic() - began:.1f} s")
    last.start()
    height, root_hash = mesh.agree(120)
    say(f"{last.name} is back; four equal state roots at block {height}: {root_hash[:16]}...")


class Registrar(threading.Thread):
    """Registers assets through a node one after the other and remembers what was acknowledged."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.acknowledged, self.stop = node, {}, False

    def run(self):
        number = 0
        while not self.stop:
            number += 1
            name = f"acknowledged-{self.node.number}-{number}"
            try:
                a = self.node.request("POST", "/v1/assets", {"kind": "service", "name": name})
                self.acknowledged[name] = a["asset"]
            except (OSError, Refused, subprocess.SubprocessError):
                pass
            except Exception as e:  # a connection cut in the middle of an answer
                if "http.client" not in type(e).__module__:
                    raise


def import_with_all_killed(mesh, root):
    total = sum(1 for _ in files_below(root))
    first = mesh.nodes[0]
    before = first.get("/v1/status")["ops_final"]
    writers = [Registrar(Node(mesh, n.number)) for n in mesh.nodes[:2]]
    for w in writers:
        w.start()
    p = mesh.cli_begin(first, "asset", "import", "--json", "--policy", "public", root)
    wait_until("a quarter of the files, and something beside", 300,
               lambda: first.get("/v1/status")["ops_final"] - before > total / 4 and
               any(w.acknowledged for w in writers))
    for n in mesh.nodes:
        with open(f"/proc/{n.pid}/cmdline", "rb") as f:
            n.argv = f.read().split(b"\0")[:-1]
    for n in mesh.nodes:
        os.kill(n.pid, 9)
    for n in mesh.nodes:
        wait_until(f"{n.name} is gone", 120, lambda n=n: not n.alive())
    for w in writers:
        w.stop = True
    for w in writers:
        w.join(60)
    kept = {name: id_ for w in writers for name, id_ in w.acknowledged.items()}
    assert p.poll() is None, "the import ended before the nodes were killed"
    say(f"all four killed; {len(kept)} registrations beside the import were acknowledged")
    assert len(kept) > 0
    for n in mesh.nodes:
        n.start()
    out, err = p.communicate()
    assert p.returncode == 0, f"import: exit {p.returncode}\n{out}{err}"
    height, _ = mesh.agree()
    say(f"started again: the import went on to its end; four equal roots at block {height}")
    for n in mesh.nodes:
        names = n.assets()
        lost = [x for x in kept if names.get(x, {}).get("id") != kept[x]]
        assert not lost, f"{n.name} lost what was acknowledged: {lost[:5]}"


def known(node, op):
    try:
        return node.get(f"/v1/operations/{op}")
    except Refused as e:
        assert e.status == 404, e
        return None


def unanswered(mesh, a, b):
    """Without a quorum a client is told in the end that it is not known, and a node that is told to
    stop does so although one waits. Gives the id of the operation that waits on."""
    waiting = mesh.cli_begin(b, "asset", "register", "--kind", "service", "--name", "unanswered")
    wait_until("an operation waits", 120, lambda: b.get("/v1/status")["pending_ops"] > 0)
    b.signal(15)
    assert [p.wait() for p in mesh.children if p.pid == b.pid] in ([], [0])
    waiting.communicate()
    assert waiting.returncode != 0
    b.start()
    wait_until(f"{b.name} answers", 120, b.status)
    try:
        Node(mesh, a.number).request("POST", "/v1/assets",
                                     {"kind": "service", "name": "patient"}, timeout=300)
    except Refused as e:
        assert e.status == 504, e
        op = re.search("[0-9a-f]{64}", str(e)).group()
    else:
        raise AssertionError("an operation became final without a quorum")
    assert known(a, op) is None
    say("a client is told after a while that nobody knows yet; a node stops all the same")
    return op


def half_dead(mesh):
    a, b, c, d = mesh.nodes
    c.kill(), d.kill()
    say("two of four killed")
    # What was on its way may still become final; then, for several of the longest timeouts that
    # the agreement has (Δ at most 5 s), nothing may.
    def asked():
        return tuple(n.get("/v1/status")["height"] for n in (a, b))
    at = time.monotonic()
    heights = asked()
    while time.monotonic() - at < 12:
        began, now = time.monotonic() - at, asked()
        if now != heights:
            assert began < 5, f"blocks became final with two of four: {now}"
            heights = now
        time.sleep(0.2)
    wait_until("node-1 says that it is not ready", 120, lambda: not a.get("/v1/status")["ready"])
    op = unanswered(mesh, a, b)
    c.start()
    wait_until("blocks are final with three of four", 120, lambda: a.height() > heights[0] + 2)
    say("one is back: blocks become final again")
    wait_until("the operation that waited is final", 120, lambda: known(a, op))
    d.start()
    mesh.agree()


def verify(mesh):
    for n in mesh.nodes:
        out = mesh.cli(n, "ledger", "verify")
        say(f"{n.name}: ledger verify: {out.strip().splitlines()[-1]}")


def ends_well(mesh):
    for n in mesh.nodes:
        n.signal(15)
        status = [p.wait() for p in mesh.children if p.pid == n.pid]
        assert all(s == 0 for s in status), f"{n.name} ended with {status}"


def main():
    isolate()
    one = sys.argv[1] if len(sys.argv) > 1 else "/usr/include/linux"
    two = sys.argv[2] if len(sys.argv) > 2 else "/usr/include/c++"
    with Mesh() as mesh:
        no_ipv4()
        import_with_one_killed(mesh, one)
        read_back(mesh.nodes[2], one)
        read_back(mesh.nodes[3], one)
        import_with_all_killed(mesh, two)
        read_back(mesh.nodes[2], two)
        half_dead(mesh)
        verify(mesh)
        no_ipv4()
        ends_well(mesh)
    say("all well")


main()
