#!/usr/bin/env python3
"""The mesh's issuing key changes in its one authority while the mesh runs: nothing is issued by the new key before the
ledger has it, no request for a certificate is refused, no connection between members ends, certificates renew
themselves across the change, openssl follows both keys' chains, and what the old key revokes afterwards every member
refuses; then the old key is withdrawn."""
import json, os, re, subprocess, threading, time, urllib.request

from mesh import BIN, Mesh, Traffic, isolate, say, wait_until

SERVER = os.path.join(BIN, "server/trustchain-server")
URL = "https://[::1]:8443"
FALCON = ["-provider-path", os.path.join(BIN, "crypto"), "-provider", "falcon", "-provider", "default"]
LIFE_S = 90
REFUSED = 'hm_mesh_refused_total{what="peer"}'


def openssl(*argv, data=None):
    p = subprocess.run(["openssl", argv[0], *FALCON, *argv[1:]], input=data, capture_output=True)
    return p.returncode, p.stdout, p.stderr.decode(errors="replace")


class Authority:
    def __init__(self, mesh):
        self.mesh, self.home = mesh, os.path.join(mesh.dir, "trustchain")

    def ask(self, path, body=None, raw=False):
        headers = {}
        if body is not None:
            with open(os.path.join(self.home, "api.token")) as f:
                headers["Authorization"] = "Bearer " + f.read().strip()
        r = urllib.request.Request(URL + path, json.dumps(body).encode() if body is not None else None, headers)
        with urllib.request.urlopen(r, context=self.mesh.tls, timeout=120) as answer:
            data = answer.read()
        return data if raw else json.loads(data)

    def issue(self, csr, life_s):
        return self.ask("/v1/certificates", {"profile": "node", "csr": csr, "life_seconds": life_s})

    def states(self):
        return {i["id"]: i["state"] for i in self.ask("/v1/issuing")["items"] if i["family"] == "mesh"}

    def hup(self, key, state):
        with open(self.home + ".pid") as f:
            os.kill(int(f.read()), 1)
        wait_until(f"{key} is {state}", 120, lambda: self.states().get(key) == state)

    def command(self, *argv, code=0):
        p = subprocess.run([SERVER, *argv, "--family", "mesh", "--dir", self.home], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True)
        assert p.returncode == code, f"{argv}: exit {p.returncode}\n{p.stdout}{p.stderr}"
        return p.stdout + p.stderr

    def crl(self, key):
        return self.ask(f"/v1/crl?family=mesh&issuing={key}", raw=True)

    def verdict(self, chain, key):
        """Of a certificate with its issuer behind it, and that issuer's list."""
        files = {"chain": chain.encode(), "crl": openssl("crl", "-inform", "DER", data=self.crl(key))[1]}
        for name, data in files.items():
            with open(os.path.join(self.mesh.dir, "check." + name), "wb") as f:
                f.write(data)
        at = os.path.join(self.mesh.dir, "check.")
        code, out, err = openssl("verify", "-CAfile", os.path.join(self.home, "mesh-root.crt"), "-untrusted",
                                 at + "chain", "-crl_check", "-CRLfile", at + "crl", at + "chain")
        return "good" if code == 0 else "revoked" if "revoked" in err else out.decode() + err


def issuer(chain):
    code, out, err = openssl("x509", "-noout", "-issuer", data=chain.encode())
    assert code == 0, err
    found = re.search(r"mesh issuing(?: ([0-9a-f]{16}))?\s*$", out.decode())
    assert found, out
    return found.group(1) or "first"


def read(node, name):
    with open(os.path.join(node.dir, name)) as f:
        return f.read()


def lost(mesh):
    return sum(n.log().count('"peer lost"') for n in mesh.nodes)


class Asking(threading.Thread):
    """Has one certificate issued after another."""

    def __init__(self, authority, csr):
        super().__init__(daemon=True)
        self.authority, self.csr = authority, csr
        self.issuers, self.trouble, self.stop = [], None, False

    def run(self):
        while not self.stop and not self.trouble:
            try:
                self.issuers.append(issuer(self.authority.issue(self.csr, 3600)["chain"]))
            except Exception as e: # whatever it is, a request was refused
                self.trouble = repr(e)

    def more(self, n=3):
        want = len(self.issuers) + n
        wait_until("certificates are issued", 120, lambda: len(self.issuers) >= want or self.trouble)
        assert not self.trouble, self.trouble


def vote(mesh, *what, kind):
    """By three of four."""
    op = json.loads(mesh.cli(mesh.nodes[0], "trust", *what, "--json"))["op"]
    for n in mesh.nodes[1:3]:
        if kind == "proposal":
            wait_until("the proposal is there", 120, lambda n=n: op in [
                i["id"] for i in json.loads(mesh.cli(n, "trust", "list", "--json"))["items"]])
            mesh.cli(n, "trust", "approve", op[:12])
        else:
            mesh.cli(n, "trust", *what)


def in_force(mesh, node):
    return [i["id"][:16] for i in json.loads(mesh.cli(node, "trust", "list", "--json"))["items"]
            if i["kind"] == "authority"]


def state_of(node, name):
    return [p["state"] for p in node.get("/v1/nodes")["items"] if p["name"] == name][0]


def all_up(mesh):
    return all(p["self"] or p["state"] == "up" for n in mesh.nodes for p in n.get("/v1/nodes")["items"])


def enroll_again(mesh, node):
    node.signal(15)
    home = os.path.join(mesh.dir, "trustchain")
    p = subprocess.run([node.argv[0].decode(), "enroll", "--dir", node.dir, "--authority", URL, "--root", mesh.ca,
                        "--token-file", os.path.join(home, "api.token")], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    node.start()
    node.wait_ready()


def main():
    isolate()
    with Mesh() as mesh:
        one, two, three, four = mesh.nodes
        authority = Authority(mesh)
        first = [k for k, s in authority.states().items() if s == "present"][0]
        gone = authority.issue(read(two, "node.csr"), 86400)
        kept = authority.issue(read(one, "node.csr"), 86400)["chain"]

        say("one node has a certificate that soon renews itself")
        four.signal(15)
        with open(os.path.join(four.dir, "node.crt"), "w") as f:
            f.write(authority.issue(read(four, "node.csr"), LIFE_S)["chain"])
        began_ms = time.time() * 1000
        four.start()
        four.wait_ready()
        # By connections of this life: one that nobody has missed yet may end later.
        wait_until("all peers are up again", 120, lambda: all_up(mesh) and all(
            p["self"] or four.name not in (n.name, p["name"]) or p["since_ms"] >= began_ms
            for n in mesh.nodes for p in n.get("/v1/nodes")["items"]))
        pid, before = four.pid, lost(mesh)

        asking, traffic = Asking(authority, read(one, "node.csr")), Traffic(mesh, one)
        asking.start()
        traffic.start()

        say("a new key, which waits for the ledger")
        told = authority.command("rotate")
        key = re.search(r"^issuing: ([0-9a-f]{16})$", told, re.M).group(1)
        pem = re.search(r"^certificate: (.*)$", told, re.M).group(1)
        assert "under way" in authority.command("rotate", code=1)
        authority.hup(key, "ready")
        use = ["issuing", "use", key, "--node", two.url]
        assert "no authority in force" in authority.command(*use, code=1)
        vote(mesh, "propose", pem, kind="proposal")
        for n in mesh.nodes:
            wait_until(f"it is in force at {n.name}", 120, lambda n=n: key in in_force(mesh, n))
        asking.more()
        assert set(asking.issuers) == {"first"}, "issued by a key that waits"

        def used():
            p = subprocess.run([SERVER, *use, "--family", "mesh", "--dir", authority.home], capture_output=True,
                               stdin=subprocess.DEVNULL, text=True)
            assert p.returncode == 0 or "has not said yet" in p.stderr, p.stderr
            return p.returncode == 0
        wait_until("all members have the block", 120, used)
        authority.hup(key, "present")
        asking.more()
        turn = asking.issuers.index(key)
        asking.stop = True
        asking.join(120)
        assert not asking.trouble, asking.trouble
        assert asking.issuers == ["first"] * turn + [key] * (len(asking.issuers) - turn), asking.issuers
        say(f"{turn} certificates by the old key, then {len(asking.issuers) - turn} by the new one")

        say("a certificate of the old key renews itself, and no connection ends")
        wait_until("it is by the new key", 3 * LIFE_S, lambda: issuer(read(four, "node.crt")) == key)
        assert four.pid == pid and four.alive()
        serial = openssl("x509", "-noout", "-serial", data=read(four, "node.crt").encode())[1].decode().strip()
        for n in mesh.nodes:
            wait_until(f"the ledger of {n.name} has it", 120, lambda n=n: [
                p["certificate"]["serial"] for p in n.get("/v1/nodes")["items"] if p["name"] == four.name
                ] == [serial.split("=")[1].lower()])
        assert lost(mesh) == before, "a connection between nodes ended"

        say("old and new meet in handshakes")
        enroll_again(mesh, three)
        assert issuer(read(three, "node.crt")) == key
        wait_until("all peers are up again", 120, lambda: all_up(mesh))

        say("both keys' chains and lists, by openssl")
        assert authority.verdict(kept, first) == "good"
        assert authority.verdict(read(three, "node.crt"), key) == "good"
        assert authority.verdict(gone["chain"], first) == "good"
        serial = [p for p in one.get("/v1/nodes")["items"] if p["name"] == two.name][0]["certificate"]["serial"]
        assert issuer(read(two, "node.crt")) == "first"
        for s in (gone["serial"], serial):
            authority.ask(f"/v1/certificates/{s}/revoke", {"reason": "keyCompromise"})
        assert authority.verdict(gone["chain"], first) == "revoked"
        assert authority.verdict(read(two, "node.crt"), first) == "revoked"
        assert authority.verdict(read(three, "node.crt"), key) == "good"

        say("what the old key revoked after the change is refused by all")
        for n in (one, three, four):
            wait_until(f"{two.name} is out at {n.name}", 120, lambda n=n: state_of(n, two.name) != "up")
        two.kill()
        refused = {n.name: n.metric(REFUSED) for n in (one, three, four)}
        two.start() # a new handshake does not let it in either
        for n in (one, three, four):
            wait_until(f"its handshake is refused by {n.name}", 120,
                       lambda n=n: n.metric(REFUSED) > refused[n.name])
            assert state_of(n, two.name) != "up"
        enroll_again(mesh, two)
        wait_until("it is in again with the next certificate", 120, lambda: all_up(mesh))

        say("the old key is withdrawn")
        remove = ["issuing", "remove", first, "--node", two.url]
        assert "trust withdraw" in authority.command(*remove, code=1)
        traffic.stop = True
        traffic.join(120)
        assert not traffic.trouble, traffic.trouble
        enroll_again(mesh, one)
        wait_until("all peers are up again", 120, lambda: all_up(mesh))
        wait_until("all stand on the new key", 120, lambda: [
            i["power_apart"] == i["total"] for i in json.loads(mesh.cli(two, "trust", "list", "--json"))["items"]
            if i["id"].startswith(first)] == [True])
        vote(mesh, "withdraw", first, kind="withdrawal")
        for n in mesh.nodes:
            wait_until(f"it is gone at {n.name}", 120, lambda n=n: in_force(mesh, n) == [key])
        assert "not over" in authority.command(*remove, code=1)
        one.request("POST", "/v1/assets", {"kind": "service", "name": "afterwards"})
        wait_until("all peers are up still", 120, lambda: all_up(mesh))
        say(f"{traffic.done} operations were final meanwhile")
        mesh.agree()
        mesh.cli(one, "ledger", "verify")
    say("all well")


main()
