#!/usr/bin/env python3
"""A node lives through three certificates of some seconds' life and into a fourth: it is the same
process, no connection to a peer ends, its operations become final all the while, and the ledger, its
API and its DNS have the newest one."""
import json, os, re, ssl, subprocess, time, urllib.request

from mesh import BIN, Mesh, isolate, say, wait_until

LIFE_S = 45
FALCON = ["-provider-path", os.path.join(BIN, "crypto"), "-provider", "falcon", "-provider", "default"]


def issue(mesh, node, profile, stem):
    """A short-lived certificate in the place of the one that deploy-dev.sh got."""
    with open(os.path.join(node.dir, stem + ".csr")) as f:
        body = {"profile": profile, "csr": f.read(), "life_seconds": LIFE_S}
    with open(os.path.join(mesh.dir, "trustchain/api.token")) as f:
        token = f.read().strip()
    request = urllib.request.Request("https://[::1]:8443/v1/certificates", json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + token}, method="POST")
    with urllib.request.urlopen(request, context=mesh.tls) as answer:
        made = json.load(answer)
    with open(os.path.join(node.dir, stem + ".crt"), "w") as f:
        f.write(made["chain"])
    return made["serial"]


def serial(pem):
    out = subprocess.run(["openssl", "x509", *FALCON, "-noout", "-serial"], input=pem, text=True,
                         capture_output=True, check=True).stdout
    return out.strip().split("=")[1].lower()


def serial_of(node, stem):
    with open(os.path.join(node.dir, stem + ".crt")) as f:
        return serial(f.read())


def on_ledger(node, name):
    one = [p for p in node.get("/v1/nodes")["items"] if p["name"] == name][0]
    return one["certificate"]["serial"] if one["certificate"] else None


def served(port):
    pem = ssl.get_server_certificate(("::1", port))
    return serial(pem)


def lost(mesh):
    return sum(len(re.findall('"peer lost"', n.log())) for n in mesh.nodes)


def main():
    isolate()
    with Mesh() as mesh:
        first, last = mesh.nodes[0], mesh.nodes[3]
        last.signal(15)
        serials = [issue(mesh, last, "node", "node")]
        edges = [issue(mesh, last, "server", "edge")]
        began_ms = time.time() * 1000
        last.start()
        last.wait_ready()
        # By connections of this life: one that nobody has missed yet may end later.
        wait_until("all peers are up again", 120, lambda: all(
            p["self"] or p["state"] == "up" and (last.name not in (n.name, p["name"]) or
                                                 p["since_ms"] >= began_ms)
            for n in mesh.nodes for p in n.get("/v1/nodes")["items"]))
        pid, before, made = last.pid, lost(mesh), 0
        end = time.monotonic() + 20 * LIFE_S
        while len(serials) < 4 or len(edges) < 4:
            # Each becomes final, whichever certificate it stands on.
            last.request("POST", "/v1/assets", {"kind": "service", "name": f"under-{made}"})
            made += 1
            for found, stem in ((serials, "node"), (edges, "edge")):
                now = serial_of(last, stem)
                if now != found[-1]:
                    assert now not in found
                    found.append(now)
                    say(f"{stem}.crt is renewed, {len(found) - 1}; {made} operations are final")
            assert time.monotonic() < end, "no renewals"
        assert last.pid == pid and last.alive()
        assert lost(mesh) == before, "a connection between nodes ended"
        for n in mesh.nodes:
            wait_until(f"the ledger of {n.name} has the newest", 120,
                       lambda n=n: on_ledger(n, last.name) == serial_of(last, "node"))
        wait_until("the API shows the newest", 120,
                   lambda: served(last.port) == serial_of(last, "edge"))
        assert f"under-{made - 1}" in first.assets()
        # A peer that starts now meets the newest certificate.
        third = mesh.nodes[2]
        third.kill()
        third.start()
        third.wait_ready()
        wait_until("it is connected again", 120, lambda: [
            p for p in third.get("/v1/nodes")["items"] if p["name"] == last.name][0]["state"] == "up")
        mesh.agree()
    say("all well")


main()
