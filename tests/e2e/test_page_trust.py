#!/usr/bin/env python3
"""The authority's page and the zone editor on a node's, in a real browser, on a running mesh.
page_trust.mjs drives; this makes the mesh and does to it what the driver asks for."""
import http.client, os, subprocess

from driver import drive, prepare
from mesh import BIN, Mesh, Node, isolate, wait_until

SERVER = os.path.join(BIN, "server/trustchain-server")


def run(*args, data=None):
    return subprocess.run(args, input=data, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=300).stdout


def key_hash(certificate):
    """Of the public key, as --ignore-certificate-errors-spki-list has it."""
    public = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey")
    der = run("openssl", "pkey", "-pubin", "-outform", "der", data=public)
    return run("openssl", "base64", "-A",
               data=run("openssl", "dgst", "-sha256", "-binary", data=der)).decode()


class World:
    def __init__(self, mesh):
        self.mesh = mesh
        self.dir = os.path.join(mesh.dir, "trustchain")
        self.authority = Node(mesh, 0)  # its process, token and port, not a node's API
        self.authority.dir = self.dir
        self.key = os.path.join(mesh.dir, "requests.key")
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-out", self.key)

    # ---- what the driver asks for
    def make_token(self, args):
        return run(SERVER, "token", "add", args["name"], "--role", args["role"], "--dir",
                   self.dir).decode().strip()

    def remove_token(self, name):
        run(SERVER, "token", "remove", name, "--dir", self.dir)

    def csr(self, name):
        return run("openssl", "req", "-new", "-key", self.key, "-subj", "/", "-addext",
                   "subjectAltName=DNS:" + name).decode()

    def issue(self, names):
        return [self.authority.request("POST", "/v1/certificates",
                                       {"csr": self.csr(n), "profile": "server"})["serial"]
                for n in names]

    def get(self, path):
        return self.authority.get(path)

    def checkpoint(self, _):
        return self.authority.get("/log/checkpoint", raw=True).decode()

    def fingerprint(self, pem):
        """By OpenSSL, with the serial and the names that it reads."""
        out = run("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-serial", "-ext",
                  "subjectAltName", data=pem.encode()).decode()
        return out

    def verify(self, chain):
        path = os.path.join(self.mesh.dir, "issued.pem")
        with open(path, "w") as f:
            f.write(chain)
        return run("openssl", "verify", "-CAfile", self.mesh.ca, "-untrusted", path, path).decode()

    def dig(self, args):
        return run("dig", "+short", "@::1", "-p", "5302", *args).decode()

    def names(self, _):
        return self.mesh.nodes[0].get("/v1/names?limit=500")["items"]

    def node_token(self, _):
        return self.mesh.token(self.mesh.nodes[0])

    def stop(self, _):
        self.authority.kill()

    def start(self, _):
        self.authority.start()
        wait_until("the authority answers", 120, self.answers)

    def answers(self):
        try:
            return self.authority.get("/healthz", raw=True)
        except (OSError, http.client.HTTPException):
            return False


def main():
    prepare()
    isolate()
    with Mesh() as mesh:
        world = World(mesh)
        keys = [key_hash(os.path.join(world.dir, "server.crt")),
                key_hash(os.path.join(mesh.nodes[0].dir, "edge.crt"))]
        drive("page_trust.mjs", mesh.dir, lambda do, args: getattr(world, do)(args), keys)


main()
