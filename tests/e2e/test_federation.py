#!/usr/bin/env python3
"""Two meshes, each with an authority of its own. One of them believes the other's root, by votes of its
members, for the other's zone and prefix: certificates of that zone are good there, those for any other
name are not, and a node forwards questions about the zone to the other mesh's node. Withdrawn, nothing
of that is left, without a restart."""
import json, os, signal, subprocess

from mesh import BIN, CLI, Mesh, isolate, say, wait_until
from names import ZONE, dig, quic_port, run, start

SERVER = os.path.join(BIN, "server/trustchain-server")
NODE = os.path.join(BIN, "server/hypermesh-server")
OTHER = "partner.internal" # the zone of the other mesh
PREFIX = "2001:db8:b::/48"
WWW = "www." + OTHER


class Partner:
    """A mesh of one node, which the names of its zone are asked of."""

    def __init__(self, mesh):
        self.mesh = mesh
        self.dir = os.path.join(mesh.dir, "partner")
        self.home, self.node = self.dir + "/trustchain", self.dir + "/node"
        os.mkdir(self.dir)
        self.root = self.home + "/edge-root.crt"
        run(SERVER, "init", "--dir", self.home, "--mesh", "partner")
        start(mesh, SERVER, "run", "--dir", self.home, "--listen", "[::1]:8600",
              log=self.dir + "/trustchain.log")
        self.wait("trustchain.log", "the partner's authority runs")
        run(NODE, "init", "--dir", self.node, "--name", "partner-1", "--mesh-host", "::1",
            "--mesh-port", "9400", "--api-host", "::1", "--api-listen", "[::1]:8650")
        run(NODE, "enroll", "--dir", self.node, "--authority", "https://[::1]:8600", "--root",
            self.root, "--token-file", self.home + "/api.token")
        join, genesis = self.dir + "/join.json", self.dir + "/genesis.bin"
        with open(join, "w") as f:
            f.write(run(NODE, "join", "--dir", self.node))
        run(NODE, "genesis", "partner", self.home + "/mesh-root.crt",
            self.home + "/authority/mesh-ca.crt", genesis, join)
        self.cert("ns", f"DNS:ns.{OTHER}")
        start(mesh, NODE, "run", "--dir", self.node, "--genesis", genesis, "--mesh-listen",
              "[::1]:9400", "--api-listen", "[::1]:8650", "--authority", "https://[::1]:8600",
              "--dns-listen", "[::1]:8960", "--dns-cert", self.dir + "/ns.crt", "--dns-key",
              self.dir + "/ns.key", log=self.dir + "/node.log")
        self.wait("node.log", "the partner's node runs")

    def wait(self, log, what):
        def runs():
            with open(os.path.join(self.dir, log)) as f:
                return '"running"' in f.read()
        wait_until(what, 120, runs)

    def cli(self, *args):
        env = dict(os.environ, HYPERMESH_NODE="https://[::1]:8650", HYPERMESH_CA=self.root,
                   HYPERMESH_AUTHORITY="https://[::1]:8600",
                   HYPERMESH_TOKEN_FILE=self.node + "/api.token")
        return run(CLI, *args, env=env)

    def cert(self, name, alt):
        """A server's certificate of the partner's authority, whatever it names."""
        path = os.path.join(self.dir, name)
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", path + ".key", "-subj", "/", "-addext", "subjectAltName=" + alt,
            "-out", path + ".csr")
        run(CLI, "cert", "issue", path + ".csr", "--profile", "server", "-o", path + ".crt",
            "--authority", "https://[::1]:8600", "--ca", self.root, "--token-file",
            self.home + "/api.token")
        return path + ".crt"


def refused(mesh, node, *args, says):
    p = mesh.cli_begin(node, *args)
    out, err = p.communicate()
    assert p.returncode != 0 and says in err, (args, p.returncode, out, err)


def items(mesh, node):
    return json.loads(mesh.cli(node, "trust", "list", "--json"))["items"]


def vote(mesh, verb, op):
    """By the second and the third of four; what the first one did is op."""
    for n in mesh.nodes[1:3]:
        wait_until("it is there", 120, lambda n=n: op in [i["id"] for i in items(mesh, n)])
        mesh.cli(n, "trust", verb, op)


def propose(mesh, root, *scope):
    op = json.loads(mesh.cli(mesh.nodes[0], "trust", "foreign", "propose", root, *scope, "--json"))["op"]
    vote(mesh, "approve", op)
    for n in mesh.nodes:
        wait_until(f"it is in force at {n.name}", 120, lambda n=n: [
            i for i in items(mesh, n) if i["kind"] == "foreign"])
    return [i for i in items(mesh, mesh.nodes[0]) if i["kind"] == "foreign"][0]


def with_forward(node, to):
    node.signal(signal.SIGTERM)
    node.argv = node.argv + [f"--dns-forward={OTHER}={to}".encode()]
    node.start()
    node.wait_ready()


def answered(node):
    return "2001:db8:b::80" in dig(node, "+tcp", WWW, "AAAA", "+short")


def certificates(mesh, certs):
    one = mesh.nodes[0]
    for name in ("www", "ns"):
        good = json.loads(mesh.cli(one, "cert", "verify", certs[name], "--mesh", "--json"))
        assert good["good"] and good["profile"] == "server", good
        assert good["by"]["kind"] == "foreign" and good["by"]["zone"] == OTHER, good
    assert OTHER in mesh.cli(one, "cert", "verify", certs["www"], "--mesh")
    for name, says in (("ours", "www." + ZONE), ("else", "www.example.org"),
                       ("both", "www." + ZONE), ("address", "2001:db8:c::1"),
                       ("local", "localhost"), ("above", "the name internal")):
        refused(mesh, one, "cert", "verify", certs[name], "--mesh", says=says)
    # A member of the other mesh has no name in a zone; one of ours is by our authority.
    refused(mesh, one, "cert", "verify", os.path.join(mesh.dir, "partner/node/node.crt"), "--mesh",
            says="root")
    own = json.loads(mesh.cli(one, "cert", "verify", one.dir + "/node.crt", "--mesh", "--json"))
    assert own["profile"] == "node" and own["by"]["kind"] == "authority", own


def main():
    isolate()
    with Mesh() as mesh:
        one, two = mesh.nodes[:2]
        partner = Partner(mesh)
        partner.cli("dns", "register", "www", "--aaaa", "2001:db8:b::80")
        certs = {name: partner.cert(name, alt) for name, alt in (
            ("www", f"DNS:{WWW},IP:2001:db8:b::80"), ("ours", f"DNS:www.{ZONE}"),
            ("else", "DNS:www.example.org"), ("both", f"DNS:{WWW},DNS:www.{ZONE}"),
            ("address", f"DNS:{WWW},IP:2001:db8:c::1"), ("local", "DNS:localhost"),
            ("above", "DNS:internal"))}
        certs["ns"] = partner.dir + "/ns.crt"
        with_forward(one, f"[::1]:8960#ns.{OTHER}")
        with_forward(two, f"[::1]:{quic_port(one)}#localhost") # which is nobody of the partner's

        say("nobody is believed yet")
        refused(mesh, one, "cert", "verify", certs["www"], "--mesh", says="no root of another")
        assert "status: SERVFAIL" in dig(one, WWW, "AAAA")
        for bad, says in (((("--zone", ZONE)), "meets"), (("--zone", "internal"), "top-level"),
                          (("--prefix", "fd48:4d00:1::/48"), "overlaps"), ((), "or both")):
            refused(mesh, one, "trust", "foreign", "propose", partner.root, *bad, says=says)
        refused(mesh, one, "trust", "foreign", "propose", mesh.dir + "/trustchain/mesh-root.crt",
                "--zone", OTHER, says="own")

        say("the partner's root, for its zone and prefix")
        foreign = propose(mesh, partner.root, "--zone", OTHER, "--prefix", PREFIX)
        assert foreign["zone"] == OTHER and foreign["prefix"] == PREFIX, foreign
        certificates(mesh, certs)
        wait_until("the partner's node answers by way of ours", 120, lambda: answered(one))
        out = dig(one, WWW, "TXT")
        assert "status: NOERROR" in out and "ANSWER: 0" in out, out
        assert "status: NXDOMAIN" in dig(one, "nope." + OTHER, "AAAA")
        assert "status: REFUSED" in dig(one, "www.example.org", "AAAA") # goes nowhere
        assert "::1" in dig(one, f"node-1.nodes.{ZONE}", "AAAA", "+short")
        assert "status: SERVFAIL" in dig(two, WWW, "AAAA")
        wait_until("it is said why", 120, lambda: "upstream not believed" in two.log())

        say("withdrawn")
        mesh.cli(one, "trust", "withdraw", foreign["id"][:12])
        vote(mesh, "withdraw", foreign["id"])
        for n in mesh.nodes:
            wait_until(f"it is gone at {n.name}", 120, lambda n=n: not [
                i for i in items(mesh, n) if i["kind"] == "foreign"])
        wait_until("nothing is asked or known of the zone", 120,
                   lambda: "status: SERVFAIL" in dig(one, WWW, "AAAA"))
        refused(mesh, one, "cert", "verify", certs["www"], "--mesh", says="no root of another")

        say("and believed again")
        propose(mesh, partner.root, "--zone", OTHER)
        wait_until("it is answered again", 120, lambda: answered(one))
        refused(mesh, one, "cert", "verify", certs["www"], "--mesh", says="2001:db8:b::80")
        mesh.cli(one, "ledger", "verify")
    say("all well")


main()
