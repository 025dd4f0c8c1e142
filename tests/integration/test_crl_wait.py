#!/usr/bin/env python3
"""Requests that wait for a revocation list: answered when something is revoked, or when their time is
over; as many as there may be, and one more; and the server ends although they wait.
$1: trustchain-server."""
import http.client, json, os, signal, ssl, subprocess, sys, tempfile, time

SERVER = os.path.realpath(sys.argv[1])
PER_CLIENT = 256


def say(text):
    print("test: " + text, flush=True)


class Authority:
    def __init__(self, folder):
        self.dir = os.path.join(folder, "ca")
        subprocess.run([SERVER, "init", "--dir", self.dir, "--mesh", "test"], check=True,
                       stdout=subprocess.DEVNULL)
        self.log = os.path.join(folder, "ca.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([SERVER, "run", "--dir", self.dir, "--listen", "[::1]:0"],
                                            stdout=log, stderr=log)
        end = time.monotonic() + 180
        while '"running"' not in open(self.log).read():
            assert time.monotonic() < end and self.process.poll() is None, open(self.log).read()
            time.sleep(0.05)
        out = subprocess.run(["ss", "-Hlntp"], capture_output=True, text=True, check=True).stdout
        line = [l for l in out.splitlines() if f"pid={self.process.pid}," in l][0]
        self.port = int(line.split()[3].rsplit(":", 1)[1])
        self.tls = ssl.create_default_context(cafile=os.path.join(self.dir, "edge-root.crt"))
        with open(os.path.join(self.dir, "api.token")) as f:
            self.token = f.read().strip()

    def begin(self, path, method="GET", body=None):
        c = http.client.HTTPSConnection("::1", self.port, timeout=120, context=self.tls)
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Authorization": "Bearer " + self.token} if body is not None else {})
        return c

    def ask(self, *args, **more):
        return answer(self.begin(*args, **more))

    def waiters(self):
        status, text = self.ask("/metrics")
        assert status == 200
        return [int(float(l.split()[1])) for l in text.decode().splitlines()
                if l.startswith("hm_trust_crl_waiters ")][0]

    def wait_for(self, count):
        end = time.monotonic() + 60
        while self.waiters() != count:
            assert time.monotonic() < end, f"{self.waiters()} wait, not {count}"
            time.sleep(0.05)

    def issue(self, name):
        key = os.path.join(self.dir, "../web.key")
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
                       check=True)
        csr = subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/", "-addext",
                              "subjectAltName=DNS:" + name], check=True, capture_output=True, text=True)
        status, text = self.ask("/v1/certificates", "POST", {"csr": csr.stdout, "profile": "server"})
        assert status == 201, text
        return json.loads(text)["serial"]

    def revoke(self, serial):
        status, text = self.ask(f"/v1/certificates/{serial}/revoke", "POST", {})
        assert status == 200, text


def answer(c):
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, body


def number(der):
    text = subprocess.run(["openssl", "crl", "-inform", "DER", "-noout", "-crlnumber"], input=der,
                          capture_output=True, check=True).stdout
    return int(text.decode().split("=")[1], 16)


def main():
    with tempfile.TemporaryDirectory() as folder:
        ca = Authority(folder)
        try:
            run(ca)
        finally:
            ca.process.kill()
            ca.process.wait()


def run(ca):
    status, der = ca.ask("/v1/crl?family=edge")
    assert status == 200
    newest = number(der)
    path = f"/v1/crl?family=edge&after={newest}"
    assert ca.ask(path) == (204, b"")
    assert ca.ask(f"/v1/crl?family=edge&after={newest - 1}&wait=60")[0] == 200
    for bad in ("wait=61", "wait=x", "after=-1", "wait=-1", "after=99999999999999999999"):
        assert ca.ask("/v1/crl?family=edge&" + bad)[0] == 400, bad

    say("its time is over")
    begun = time.monotonic()
    assert ca.ask(path + "&wait=2") == (204, b"")
    assert time.monotonic() - begun >= 2

    say("longer than a connection may rest")
    begun = time.monotonic()
    slow = ca.begin(path + "&wait=34")
    serials = [ca.issue("web.test"), ca.issue("more.test")]
    assert answer(slow) == (204, b"") and time.monotonic() - begun >= 34

    say("as many as one address may have, and one more")
    held = [ca.begin(path + "&wait=60") for _ in range(PER_CLIENT)]
    ca.wait_for(PER_CLIENT)
    status, text = ca.ask(path + "&wait=60")
    assert status == 503 and b"BUSY" in text, text
    assert ca.ask(path) == (204, b"")  # who does not wait is answered
    gone = held.pop()
    gone.close()  # whoever goes makes room
    ca.wait_for(PER_CLIENT - 1)
    other = ca.begin(f"/v1/crl?family=mesh&after=1000&wait=60")

    say("something is revoked")
    ca.wait_for(PER_CLIENT)
    ca.revoke(serials[0])
    begun = time.monotonic()
    for c in held:
        status, der = answer(c)
        assert status == 200 and number(der) == newest + 1
    say(f"{len(held)} were answered within {time.monotonic() - begun:.2f} s")
    ca.wait_for(1)  # the other family's
    path = f"/v1/crl?family=edge&after={newest + 1}"
    again = ca.begin(path + "&wait=60")
    ca.wait_for(2)
    ca.revoke(serials[1])
    assert number(answer(again)[1]) == newest + 2

    say("the server ends at once")
    begun = time.monotonic()
    ca.process.send_signal(signal.SIGTERM)
    assert answer(other) == (204, b"")
    assert ca.process.wait(30) == 0 and time.monotonic() - begun < 5
    say("all well")


main()
