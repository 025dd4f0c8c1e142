#!/usr/bin/env python3
"""Nodes of a mesh as witnesses of their authority's log: they cosign its checkpoints, `hypermesh
log verify` asks for as many cosignatures as it is told to, one that is away is missed and catches
up, and when the authority's store is set back to an older copy and goes on differently, none of
them cosigns it, also after they were killed."""
import hashlib, http.client, json, os, shutil, signal, subprocess

from mesh import CLI, Mesh, isolate, runs, say, wait_until

NODES = 3


class Authority:
    """The mesh's own, restarted with other options."""

    def __init__(self, mesh):
        self.mesh, self.dir = mesh, os.path.join(mesh.dir, "trustchain")
        with open(self.dir + ".pid") as f:
            self.pid = int(f.read())
        with open(f"/proc/{self.pid}/cmdline", "rb") as f:
            self.argv = [a.decode() for a in f.read().split(b"\0")[:-1]]
        self.process = None
        with open(os.path.join(self.dir, "api.token")) as f:
            self.token = f.read().strip()

    def alive(self):
        if self.process:
            return self.process.poll() is None
        return runs(self.pid)

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        wait_until("the authority is gone", 120, lambda: not self.alive())

    def start(self, *more):
        with open(self.dir + ".log", "ab") as log:
            self.process = subprocess.Popen([*self.argv, *more], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        self.mesh.children.append(self.process)
        self.pid = self.process.pid

        def answers():
            assert self.alive(), "the authority ended"
            try:
                return self.ask("GET", "/healthz")
            except (OSError, http.client.HTTPException):
                return None
        wait_until("the authority answers", 120, answers)

    def ask(self, method, path, body=None):
        c = http.client.HTTPSConnection("::1", 8443, timeout=120, context=self.mesh.tls)
        try:
            c.request(method, path, body, {"Authorization": "Bearer " + self.token,
                                           "Content-Type": "application/json"})
            r = c.getresponse()
            data = r.read()
            assert r.status < 300, (path, r.status, data)
            return data
        finally:
            c.close()

    def issue(self, csr):
        return json.loads(self.ask("POST", "/v1/certificates",
                                   json.dumps({"profile": "server", "csr": csr})))

    def metric(self, name):
        for line in self.ask("GET", "/metrics").decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError(name)


def log(mesh, *args):
    env = dict(os.environ, HYPERMESH_AUTHORITY="https://[::1]:8443", HYPERMESH_CA=mesh.ca)
    p = subprocess.run([CLI, "log", *args, "--json"], env=env, cwd=mesh.dir, capture_output=True,
                       text=True)
    return p.returncode, p.stdout, p.stderr


def cosigned(mesh, size, need):
    """The whole log is verified with so many cosignatures, as soon as it has that size."""
    def good():
        code, out, err = log(mesh, "verify", "--witnesses", str(need), "--policy", "witnesses.txt")
        if code == 1 and "of the policy's witnesses cosigned" in err:
            return None
        assert code == 0, (code, out, err)
        v = json.loads(out)
        return v if v["size"] >= size and v["witnesses"] >= need else None
    return wait_until(f"{need} cosignatures for {size} entries", 120, good)


def restart_as_witness(mesh, origin):
    for n in mesh.nodes:
        n.signal(signal.SIGTERM)
        n.argv += [b"--witness-log", f"{origin}={mesh.dir}/log.pem".encode()]
        n.start()
    for n in mesh.nodes:
        n.wait_ready()
    keys = [n.get("/witness/key", raw=True).decode().strip() for n in mesh.nodes]
    assert len(set(keys)) == NODES and all(k.startswith("node-") for k in keys), keys
    with open(os.path.join(mesh.dir, "witnesses.txt"), "w") as f:
        f.writelines(f"witness {n.name} {k} {n.url}/witness\n" for n, k in zip(mesh.nodes, keys))


def one_is_away(mesh, authority, csr, size):
    say("one witness is away")
    mesh.nodes[2].kill()
    authority.issue(csr)
    v = cosigned(mesh, size + 1, 2)
    assert v["witnesses"] == 2, v
    mesh.nodes[2].start()
    assert cosigned(mesh, size + 1, NODES)["witnesses"] == NODES


def served_by_a_witness(mesh, origin):
    path = f"/witness/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
    note = mesh.nodes[0].get(path, raw=True).decode()
    assert note.startswith(origin + "\n") and note.count("\u2014 ") == 2, note
    for status, method, where, body in ((404, "GET", "/witness/" + "0" * 64 + "/checkpoint", None),
                                        (400, "POST", "/witness/add-checkpoint", b"old 1\n"),
                                        (413, "POST", "/witness/add-checkpoint", b"x" * 50000)):
        c = http.client.HTTPSConnection("::1", mesh.nodes[0].port, context=mesh.tls, timeout=120)
        c.request(method, where, body)
        assert c.getresponse().status == status, where
        c.close()


def fork(mesh, authority, csr):
    say("the store is set back, and goes on differently")
    before = json.loads(log(mesh, "head")[1])["size"]
    authority.stop()
    copy = os.path.join(mesh.dir, "copy")
    shutil.copytree(authority.dir, copy, symlinks=True)
    authority.start("--witnesses", os.path.join(mesh.dir, "witnesses.txt"))
    for _ in range(3):
        authority.issue(csr)
    true = cosigned(mesh, before + 3, NODES)
    authority.stop()
    shutil.rmtree(authority.dir)
    os.rename(copy, authority.dir)
    for n in mesh.nodes:  # what they cosigned they remember
        n.kill()
        n.start()
    for n in mesh.nodes:
        n.wait_ready()
    authority.start("--witnesses", os.path.join(mesh.dir, "witnesses.txt"))
    for _ in range(6):  # it is larger than what they have seen, in the end
        authority.issue(csr)

    def refused():
        code, out, _ = log(mesh, "head")
        size = json.loads(out)["size"] if code == 0 else 0
        return size > true["size"] and all(n.metric("hm_witness_refused_total") for n in mesh.nodes)
    wait_until("every witness refused the fork", 120, refused)
    code, out, err = log(mesh, "verify", "--witnesses", "1", "--policy", "witnesses.txt")
    assert code == 1 and "0 of the policy's witnesses cosigned" in err, (code, out, err)
    code, out, err = log(mesh, "verify")
    assert code == 0, "without witnesses nobody who did not keep a checkpoint can see it"
    assert authority.metric("hm_trust_witnesses_cosigned") == 0
    wait_until("the authority has their answers", 120, lambda: authority.metric(
        "hm_trust_cosignature_failures_total") >= NODES)


def main():
    isolate()
    with Mesh(NODES) as mesh:
        authority = Authority(mesh)
        with open(os.path.join(mesh.nodes[0].dir, "edge.csr")) as f:
            csr = f.read()
        _, out, _ = log(mesh, "head")
        head = json.loads(out)
        with open(os.path.join(mesh.dir, "log.pem"), "wb") as f:
            f.write(authority.ask("GET", "/v1/log/key"))
        say("the nodes become witnesses")
        restart_as_witness(mesh, head["origin"])
        authority.stop()
        authority.start("--witnesses", os.path.join(mesh.dir, "witnesses.txt"))
        assert cosigned(mesh, head["size"], NODES)["witnesses"] == NODES
        assert authority.metric("hm_trust_witnesses_cosigned") == NODES
        authority.issue(csr)
        cosigned(mesh, head["size"] + 1, NODES)
        served_by_a_witness(mesh, head["origin"])
        one_is_away(mesh, authority, csr, head["size"] + 1)
        fork(mesh, authority, csr)


main()
