#!/usr/bin/env python3
"""The members change their authority while the mesh runs: first the issuing certificate gets a longer
life, then a second authority with another key is put in force by votes, a member goes over to it, and
what it revokes is revoked; operations become final all the while."""
import json, os, subprocess

from mesh import BIN, CLI, Mesh, Traffic, isolate, say, wait_until

SERVER = os.path.join(BIN, "server/trustchain-server")
SECOND = "https://[::1]:8500"


def run(*argv):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert p.returncode == 0, f"{' '.join(argv)}: exit {p.returncode}\n{p.stdout}{p.stderr}"
    return p.stdout


def refused(mesh, node, *args):
    p = mesh.cli_begin(node, *args)
    out, err = p.communicate()
    assert p.returncode != 0, f"{args} was not refused: {out}"
    return err


def items(mesh, node):
    return json.loads(mesh.cli(node, "trust", "list", "--json"))["items"]


def vote(mesh, pem):
    """By three of four; gives the proposal."""
    one, two, three = mesh.nodes[:3]
    op = json.loads(mesh.cli(one, "trust", "propose", pem, "--json"))["op"]
    for n in (two, three):
        wait_until("the proposal is there", 120, lambda n=n: op in [i["id"] for i in items(mesh, n)])
        shown = json.loads(mesh.cli(n, "trust", "show", op[:12], "--json"))
        assert shown["kind"] == "proposal" and shown["power"] * 3 <= shown["total"] * 2
        mesh.cli(n, "trust", "approve", op[:12])
    return op


def in_force(mesh, node):
    return [i for i in items(mesh, node) if i["kind"] == "authority"]


def second_authority(mesh, sign):
    """A directory with keys of its own, under the same roots."""
    home = os.path.join(mesh.dir, "second")
    run(SERVER, "init", "--dir", home, "--mesh", "dev", "--issuing-only")
    chains = {f: sign(f, os.path.join(home, f"authority/{f}-ca.csr"), f"second-{f}.chain")
              for f in ("mesh", "edge")}
    run(SERVER, "install-issuing", "--dir", home, *chains.values())
    log = open(home + ".log", "ab")
    mesh.children.append(subprocess.Popen(
        [SERVER, "run", "--dir", home, "--listen", "[::1]:8500"], stdin=subprocess.DEVNULL,
        stdout=log, stderr=log, start_new_session=True))
    wait_until("the second authority runs", 120, lambda: '"running"' in open(home + ".log").read())
    return home, chains["mesh"]


def main():
    isolate()
    with Mesh() as mesh:
        one, last = mesh.nodes[0], mesh.nodes[3]
        roots = os.path.join(mesh.dir, "trustchain/authority")
        passphrase = os.path.join(mesh.dir, "passphrase")
        with open(passphrase, "w") as f:
            f.write("these keys have none\n")
        os.chmod(passphrase, 0o600)

        def sign(family, csr, name):
            out = os.path.join(mesh.dir, name)
            run(CLI, "cert", "root", "sign", "--key", f"{roots}/{family}-root.key", "--days", "3000",
                "--passphrase-file", passphrase, csr, "-o", out)
            return out

        traffic = Traffic(mesh, one)
        traffic.start()
        first = in_force(mesh, one)
        assert len(first) == 1 and first[0]["first"] and first[0]["since_height"] == 0

        say("the issuing certificate gets a longer life")
        longer = sign("mesh", roots + "/mesh-ca.csr", "longer.chain")
        vote(mesh, longer)
        for n in mesh.nodes:
            wait_until(f"it is in force at {n.name}", 120,
                       lambda n=n: [a["since_height"] > 0 for a in in_force(mesh, n)] == [True])
        now = in_force(mesh, one)[0]
        assert now["id"] == first[0]["id"] and now["not_after_ms"] > first[0]["not_after_ms"]
        assert "in force already" in refused(mesh, one, "trust", "propose", longer)
        traffic.more()

        say("another key")
        home, issuing = second_authority(mesh, sign)
        vote(mesh, issuing)
        for n in mesh.nodes:
            wait_until(f"it is in force at {n.name}", 120, lambda n=n: len(in_force(mesh, n)) == 2)
        assert "already" in refused(mesh, one, "trust", "propose", issuing)
        other = [a for a in in_force(mesh, one) if not a["first"]][0]
        traffic.more()
        last.signal(15)
        node_bin = last.argv[0].decode()
        run(node_bin, "enroll", "--dir", last.dir, "--authority", SECOND, "--root",
            os.path.join(home, "edge-root.crt"), "--token-file",
            os.path.join(home, "api.token"))
        at = last.argv.index(b"--authority")
        last.argv[at + 1] = SECOND.encode()
        last.start()
        last.wait_ready()
        wait_until("all peers are up again", 120, lambda: all(
            p["state"] == "up" or p["self"] for n in mesh.nodes for p in n.get("/v1/nodes")["items"]))
        wait_until("its certificate is on the ledger", 120, lambda: json.loads(mesh.cli(
            one, "trust", "show", other["id"], "--json"))["power_apart"] * 4 == other["total"] * 3)
        last.request("POST", "/v1/assets", {"kind": "service", "name": "by-another-authority"})
        # Three of four stand on the first one: it cannot leave. And the second can, but nobody says so.
        for n in mesh.nodes[:2]:
            mesh.cli(n, "trust", "withdraw", now["id"][:8])
        wait_until("both votes are there", 120, lambda: [
            i["power"] for i in items(mesh, mesh.nodes[2]) if i["kind"] == "withdrawal"] == [200])
        assert "renew" in refused(mesh, mesh.nodes[2], "trust", "withdraw", now["id"])
        traffic.more()

        say("what the second one revokes is revoked")
        serial = [p for p in one.get("/v1/nodes")["items"] if p["name"] == last.name][0]["certificate"]["serial"]
        run(CLI, "cert", "revoke", serial, "--authority", SECOND, "--ca", mesh.ca, "--token-file",
            os.path.join(home, "api.token"))
        wait_until("its list is on the ledger", 120, lambda: json.loads(mesh.cli(
            one, "trust", "show", other["id"], "--json"))["crl_number"] > 0)
        wait_until("the member is out", 120, lambda: [
            p for p in one.get("/v1/nodes")["items"] if p["name"] == last.name][0]["state"] != "up")
        traffic.more()
        traffic.stop = True
        traffic.join(60)
        assert not traffic.trouble, traffic.trouble
        say(f"{traffic.done} operations were final meanwhile")
        mesh.cli(one, "ledger", "verify")
    say("all well")


main()
