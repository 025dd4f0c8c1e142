#!/usr/bin/env python3
"""The node's API by HTTP/3: the same answers as by HTTP/1.1, to curl, to ngtcp2's client and to a
browser; h3.mjs drives that one."""
import hashlib, json, os, shutil, subprocess, sys

from mesh import ROOT, Mesh, isolate, say, wait_until

HERE = os.path.dirname(os.path.realpath(__file__))


def prepare():
    """What may need the network, before it is gone."""
    if os.environ.get("HM_E2E_ISOLATED") != "1":
        subprocess.run([os.path.join(ROOT, "scripts/npm-install.sh"), "tests/e2e"], cwd=ROOT,
                       check=True, stdout=subprocess.DEVNULL)


class Curl:
    def __init__(self, mesh, node):
        self.mesh, self.node = mesh, node
        self.base = ["curl", "-gsS", "-m", "300", "--cacert", mesh.ca]

    def run(self, *args, how="--http3-only", wants=0):
        p = subprocess.run([*self.base, how, *args], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
        assert p.returncode == wants, p
        return p.stdout

    def ask(self, path, *args, token=None, how="--http3-only"):
        """Status, version and body."""
        if token:
            args += ("-H", "Authorization: Bearer " + token)
        out = self.run("-w", "\n%{http_code} %{http_version}", *args, self.node.url + path, how=how)
        body, _, last = out.rpartition(b"\n")
        status, version = last.decode().split()
        return int(status), version, body


def answers(mesh, c, token):
    for path in ("/healthz", "/v1/genesis", "/v1/nodes/nobody", "/v1/nothing",
                 "/v1/assets?limit=0", "/v1/openapi.yaml", "/v1/assets?q=a%2Bb+c&kind=data"):
        status, version, body = c.ask(path)
        assert version == "3", (path, version)
        assert (status, body) == c.ask(path, how="--http1.1")[::2], path
    assert json.loads(c.ask("/v1/status")[2])["name"] == "node-1"
    for how in ("--http1.1", "--http3-only"):
        head = c.run("-D", "-", "-o", os.devnull, c.node.url + "/healthz", how=how).decode().lower()
        assert ('alt-svc: h3=":8444"; ma=86400' in head) == (how == "--http1.1"), head
        assert "x-content-type-options: nosniff" in head and "content-length: 3" in head, head

    body = json.dumps({"kind": "service", "name": "by-http3"})
    for wrong in (None, "0" * 64):
        status, _, answer = c.ask("/v1/assets", "-d", body, token=wrong)
        assert status == 401 and json.loads(answer)["error"]["code"] == "DENIED", answer
    status, version, answer = c.ask("/v1/assets", "-d", body, token=token)
    assert (status, version) == (201, "3"), (status, answer)
    wait_until("the asset is everywhere", 120,
               lambda: all("by-http3" in n.assets() for n in mesh.nodes))
    status, _, answer = c.ask("/v1/assets", "-d", "{", token=token)
    assert status == 400, answer
    assert c.ask("/v1/assets", "-X", "DELETE", token=token)[0] == 405
    big = os.path.join(mesh.dir, "big")
    with open(big, "wb") as f:
        f.write(os.urandom(40_000_000))
    status, _, answer = c.ask("/v1/assets", "--data-binary", "@" + big, token=token)
    assert status == 413 and "40000000 were announced" in json.loads(answer)["error"]["detail"]
    say("answers, refusals")

    status, _, answer = c.ask("/v1/content", "--data-binary", "@" + big, token=token)
    assert status == 201, answer
    content = json.loads(answer)
    assert content["size"] == 40_000_000
    made = c.node.request("POST", "/v1/assets", {"kind": "data", "name": "big", "policy": "public",
                                                 "content": content})
    back = os.path.join(mesh.dir, "back")
    at = f"{c.node.url}/v1/assets/{made['asset']}/content"
    c.run("-o", back, at)
    with open(big, "rb") as f, open(back, "rb") as g:
        assert hashlib.sha256(f.read()).digest() == hashlib.sha256(g.read()).digest()
    c.run("--parallel", *[x for i in range(8) for x in ("-o", f"{back}-{i}", at)])
    for i in range(8):
        assert os.path.getsize(f"{back}-{i}") == 40_000_000
        os.unlink(f"{back}-{i}")
    say("40 MB up and down, eight at a time")


def events(mesh, c):
    p = subprocess.Popen([*c.base, "-N", "--http3-only", c.node.url + "/v1/events"],
                         stdout=subprocess.PIPE, text=True)
    c.node.request("POST", "/v1/assets", {"kind": "service", "name": "told"})
    height = c.node.status()["height"]
    for line in p.stdout:
        if line.startswith("data: ") and json.loads(line[6:])["type"] == "final" and \
                json.loads(line[6:])["height"] >= height:
            break
    p.kill()
    p.wait()
    say("events")


def others(mesh, c):
    if shutil.which("gtlsclient"):
        down = os.path.join(mesh.dir, "gtls")
        os.mkdir(down)
        subprocess.run(["gtlsclient", "-q", "--exit-on-all-streams-close", "--download", down, "::1",
                        str(c.node.port), f"https://localhost:{c.node.port}/healthz"], check=True,
                       timeout=120, stderr=subprocess.DEVNULL)
        with open(os.path.join(down, "healthz")) as f:
            assert f.read() == "ok\n"
        say("ngtcp2's client")
    key = subprocess.run(f"openssl x509 -in {c.node.dir}/edge.crt -noout -pubkey | openssl pkey "
                         "-pubin -outform der | openssl dgst -sha256 -binary | openssl base64 -A",
                         shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout
    out = subprocess.run(["node", os.path.join(HERE, "h3.mjs"), f"localhost:{c.node.port}", key],
                         stdout=subprocess.PIPE, text=True, timeout=300)
    assert out.returncode == 0, out
    seen = json.loads(out.stdout)
    assert seen["protocol"] == "h3" and seen["status"] == 200 and seen["text"] == "ok\n", seen
    assert seen["missing"] == 404 and seen["parallel"] == ["h3"] * 50, seen
    assert seen["event"] == "final", seen
    say("Chromium: " + seen["protocol"])


def ends(mesh, c):
    """A stream is ended at shutdown, and so is the port; with --http3 off there is none."""
    assert c.node.metric("hm_http3_requests_total") >= 60
    assert c.node.metric('hm_http3_ended_total{code="other"}') == 0
    p = subprocess.Popen([*c.base, "-N", "--http3-only", c.node.url + "/v1/events"],
                         stdout=subprocess.PIPE, text=True)
    p.stdout.readline()
    c.node.signal(15)
    p.communicate()
    assert p.returncode == 0, p.returncode # whole, as it ended with its stream
    assert "stopped" in c.node.log().splitlines()[-1]
    c.node.argv += [b"--http3", b"off"]
    c.node.start()
    c.node.wait_ready()
    c.run(c.node.url + "/healthz", wants=7)
    assert b"alt-svc" not in c.run("-i", c.node.url + "/healthz", how="--http1.1").lower()
    say("an end, and off")


def main():
    prepare()
    isolate()
    with Mesh() as mesh:
        c = Curl(mesh, mesh.nodes[0])
        answers(mesh, c, mesh.token(c.node))
        events(mesh, c)
        others(mesh, c)
        ends(mesh, c)


main()
