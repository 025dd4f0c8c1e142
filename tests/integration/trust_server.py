"""trustchain-server as the tests of its log run it, and asking it for certificates. The programs
that import this have TRUSTCHAIN_SERVER and FALCON_FOLDER as their first arguments."""
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time

SERVER, FALCON = (os.path.realpath(p) for p in sys.argv[1:3])
START_SECONDS = 180  # only to end a test that would wait for ever


def openssl(*args, data=None):
    providers = ["-provider-path", FALCON, "-provider", "falcon", "-provider", "default"]
    return subprocess.run(["openssl", args[0], *providers, *args[1:]], input=data, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


class Server:
    started = []  # processes

    def __init__(self, folder, name="data"):
        self.dir = folder / name
        self.log = folder / "server.log"
        subprocess.run([SERVER, "init", "--dir", self.dir, "--mesh", "test"], check=True,
                       stdout=subprocess.DEVNULL)
        self.token = (self.dir / "api.token").read_text().strip()
        self.tls = ssl.create_default_context(cafile=self.dir / "edge-root.crt")
        self.process = None
        self.port = None
        self.kept = None  # connection of get()

    def launch(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([SERVER, "run", "--dir", self.dir, "--listen", "[::1]:0"],
                                            stdout=log, stderr=log)
        Server.started.append(self.process)

    def start(self):
        self.launch()
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            if '"running"' in self.log.read_text():
                out = subprocess.run(["ss", "-Hlntp"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout
                mine = [l for l in out.splitlines() if f"pid={self.process.pid}," in l]
                self.port = int(mine[0].split()[3].rsplit(":", 1)[1])
                return
            time.sleep(0.05)
        raise AssertionError("the server does not start")

    def kill(self, number=signal.SIGKILL):
        self.port = None
        if self.kept:
            self.kept.close()
            self.kept = None
        self.process.send_signal(number)
        self.process.wait()

    def ask(self, method, path, body=None):
        c = http.client.HTTPSConnection("::1", self.port, context=self.tls, timeout=60)
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        try:
            c.request(method, path, body, headers if body else {})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def get_by_kept(self, path):
        if not self.kept:
            self.kept = http.client.HTTPSConnection("::1", self.port, context=self.tls, timeout=60)
        self.kept.request("GET", path)
        return self.kept.getresponse()

    def get(self, path):
        """By one connection, and from one thread."""
        try:
            r = self.get_by_kept(path)
        except (ConnectionError, ssl.SSLError):  # the server ends a connection that rests for long
            self.kept.close()
            self.kept = None
            r = self.get_by_kept(path)
        body = r.read()
        assert r.status == 200, f"{path}: {r.status} {body}"
        cache = r.headers.get_all("cache-control")
        stays = "/tile/" in path or "/issuer/" in path
        assert len(cache) == 1 and ("immutable" in cache[0]) == stays, (path, cache)
        return body


def requests():
    node = openssl("req", "-new", "-newkey", "falcon1024", "-noenc", "-keyout", "/dev/null",
                   "-subj", "/CN=node-a")
    web = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                  "-keyout", "/dev/null", "-subj", "/", "-addext", "subjectAltName=DNS:web.test")
    return [json.dumps({"profile": p, "csr": c.decode()})
            for p, c in (("node", node), ("server", web))]
