#!/usr/bin/python3
"""The authority's transparency log, read by programs that are not ours.

Issues certificates of both families over the API, several at a time, while the server is killed at
random instants and started again. Afterwards: every certificate that somebody was given is listed
and logged, no serial was given twice, every SCT verifies (python3-cryptography, OpenSSL), and each
checkpoint that was ever seen is a beginning of the last tree, whose root is computed here from the
entries. The same with peers that go before their answer, and on a disk that fills up and is made larger.
usage: test_trust_log.py TRUSTCHAIN_SERVER FALCON_FOLDER [KILLS]
KILLS is 12 unless given; 500 take about ten minutes.
"""
import base64
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trust_server import Server, openssl, requests

KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 12
CLIENTS = 3
DISK_BYTES = 8 << 20  # of which the journal of the store takes four
HANG_UPS = 60
STREAMS = 20
CERTIFICATES_MAX = 4000  # many more than fit


if os.environ.get("TRUST_LOG_MOUNTS") is None:  # its small disk is mounted for itself alone
    os.environ["TRUST_LOG_MOUNTS"] = "own"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execvp("unshare", ["unshare", *user, "-m", sys.executable, *sys.argv])


def sha256(data):
    return hashlib.sha256(data).digest()


# ---- asking for certificates --------------------------------------------------------------------


class Client(threading.Thread):
    """Asks one request after the other; what was answered was given."""

    def __init__(self, server, bodies, stop):
        super().__init__()
        self.server, self.bodies, self.stop = server, bodies, stop
        self.given, self.refused = [], []

    def run(self):
        while not self.stop.is_set():
            if self.server.port is None:
                time.sleep(0.01)  # until the server is there again
                continue
            try:
                status, body = self.server.ask("POST", "/v1/certificates",
                                               random.choice(self.bodies))
            except (OSError, http.client.HTTPException, TypeError):
                continue  # killed in the middle
            (self.given if status == 201 else self.refused).append(json.loads(body))


def issue_and_kill(server, bodies):
    stop, checkpoints = threading.Event(), []
    clients = [Client(server, bodies, stop) for _ in range(CLIENTS)]
    for c in clients:
        c.start()
    try:
        for _ in range(KILLS):
            if random.random() < 0.2:  # one in five while it starts
                server.launch()
                time.sleep(random.uniform(0, 0.1))
                server.kill()
                continue
            server.start()
            until = time.monotonic() + random.uniform(0.05, 1.5)
            while time.monotonic() < until:
                checkpoints.append(server.get("/log/checkpoint"))
            server.kill()
    finally:
        stop.set()
        for c in clients:
            c.join()
    assert not [r for c in clients for r in c.refused]
    return [g for c in clients for g in c.given], checkpoints


# ---- reading the log ----------------------------------------------------------------------------


def checkpoint(note, key):
    """Size and root of a checkpoint whose signature verifies (C2SP static-ct-api)."""
    text, signature = note.decode().split("\n\n")
    origin, size, root = text.split("\n")
    dash, name, blob = signature.rstrip("\n").split(" ")
    assert dash == "\u2014" and name == origin == "test/log"
    blob, root, size = base64.b64decode(blob), base64.b64decode(root), int(size)
    spki = key.public_bytes(serialization.Encoding.DER,
                            serialization.PublicFormat.SubjectPublicKeyInfo)
    assert blob[:4] == sha256(origin.encode() + b"\n\x05" + sha256(spki))[:4]
    stamp, algorithms, length = struct.unpack(">QHH", blob[4:16])
    assert algorithms == 0x0403 and len(blob) == 16 + length
    key.verify(blob[16:], struct.pack(">BBQQ", 0, 1, stamp, size) + root, ec.ECDSA(hashes.SHA256()))
    return size, root


def tile_path(n):
    parts = [f"{n % 1000:03}"]
    while n >= 1000:
        n //= 1000
        parts.insert(0, f"x{n % 1000:03}")
    return "/".join(parts)


def tiles(server, size, level):
    out = b""
    for n in range(0, (size + 255) // 256):
        width = min(256, size - 256 * n)
        out += server.get(f"/log/tile/{level}/{tile_path(n)}" +
                          (f".p/{width}" if width < 256 else ""))
    return out


def u24(data, at):
    return int.from_bytes(data[at:at + 3], "big")


def entries(data):
    """(timestamped_entry, TBSCertificate, fingerprint) of each TileLeaf."""
    out, at = [], 0
    while at < len(data):
        begin = at
        assert data[at + 8:at + 10] == b"\0\1"  # precert_entry
        at += 42
        tbs = data[at + 3:at + 3 + u24(data, at)]
        at += 3 + len(tbs)
        assert data[at:at + 5] == b"\0\x08\0\0\x05"
        assert int.from_bytes(data[at + 5:at + 10], "big") == len(out)
        at += 10
        stamped = data[begin:at]
        at += 3 + u24(data, at)
        assert data[at:at + 2] == b"\0\x20"
        out.append((stamped, tbs, data[at + 2:at + 34]))
        at += 34
    return out


def mth(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:]))


def check_sct(certificate, key, log, issuer_keys):
    """The certificate's SCT verifies and its entry is where it says."""
    scts = certificate.extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps).value
    assert len(scts) == 1
    sct = scts[0]
    index = int.from_bytes(sct.extension_bytes[3:], "big")
    assert len(sct.extension_bytes) == 8 and sct.extension_bytes[:3] == b"\0\0\5"
    stamped, tbs, fingerprint = log[index]
    assert tbs == certificate.tbs_precertificate_bytes
    assert stamped[10:42] == issuer_keys[fingerprint]
    key.verify(sct.signature, b"\0\0" + stamped, ec.ECDSA(hashes.SHA256()))
    return index


def check_log(server, given, checkpoints):
    key = serialization.load_pem_public_key(server.get("/v1/log/key"))
    certificates = listed(server)
    size = 0
    while size < len(certificates):  # a checkpoint is a second old before the next
        size, root = checkpoint(server.get("/log/checkpoint"), key)
    log = entries(tiles(server, size, "data"))
    leaves = [sha256(b"\0\0\0" + stamped) for stamped, _, _ in log]
    assert len(log) == size and mth(leaves) == root
    assert tiles(server, size, 0) == b"".join(leaves)
    for n, note in enumerate(checkpoints):
        if n and note == checkpoints[n - 1]:
            continue
        old, old_root = checkpoint(note, key)
        assert mth(leaves[:old]) == old_root, f"the checkpoint of {old} is no beginning of {size}"
    issuer_keys = {}
    for fingerprint in {f for _, _, f in log}:
        der = server.get("/log/issuer/" + fingerprint.hex())
        assert sha256(der) == fingerprint
        pem = openssl("x509", "-inform", "DER", "-noout", "-pubkey", data=der)
        issuer_keys[fingerprint] = sha256(openssl("pkey", "-pubin", "-outform", "DER", data=pem))
    used = set()
    for g in given:
        assert json.loads(server.get("/v1/certificates/" + g["serial"]))["state"] == "valid"
        index = check_sct(x509.load_pem_x509_certificate(g["chain"].encode()), key, log, issuer_keys)
        assert index not in used
        used.add(index)
    serials = {x509.load_der_x509_certificate(d).serial_number for d in certificates}
    assert len(serials) == size, "the list and the log differ"
    return size


def listed(server):
    cursor, out = "", []
    while cursor is not None:
        page = json.loads(server.get(f"/v1/certificates?limit=500&cursor={cursor}"))
        for item in page["items"]:
            pem = json.loads(server.get("/v1/certificates/" + item["serial"]))["certificate"]
            out.append(ssl.PEM_cert_to_DER_cert(pem))
        cursor = page["next"]
    return out


def kills(folder, bodies):
    server = Server(folder)
    given, checkpoints = issue_and_kill(server, bodies)
    serials = [g["serial"] for g in given]
    assert serials and len(serials) == len(set(serials)), "a serial was given twice"
    server.start()
    size = check_log(server, given, checkpoints)
    server.kill(signal.SIGTERM)
    print(f"{KILLS} kills, {len(given)} certificates given, {size} logged, "
          f"{len(set(checkpoints))} checkpoints")


def hang_up(server, body):
    """Sends a request whole and goes away before the answer."""
    raw = socket.create_connection(("::1", server.port))
    with server.tls.wrap_socket(raw, server_hostname="::1") as s:
        s.sendall(f"POST /v1/certificates HTTP/1.1\r\nHost: [::1]\r\nContent-Length: {len(body)}\r\n"
                  f"Authorization: Bearer {server.token}\r\n\r\n{body}".encode())


def many_at_once(server, body, folder):
    """Requests that are issued together and answered on one connection, by HTTP/2."""
    (folder / "body").write_text(body)
    asked = []
    for n in range(STREAMS):
        asked += ["-o", str(folder / f"answer-{n}"), f"https://[::1]:{server.port}/v1/certificates"]
    codes = subprocess.run(
        ["curl", "-sS", "-g", "--http2-prior-knowledge", "-Z", "--parallel-max", str(STREAMS),
         "--cacert", server.dir / "edge-root.crt", "-H", "Authorization: Bearer " + server.token, "-d",
         "@" + str(folder / "body"), "-w", "%{http_code}\n", *asked], check=True, text=True,
        stdout=subprocess.PIPE).stdout.split()
    assert codes == ["201"] * STREAMS, codes
    return [json.loads((folder / f"answer-{n}").read_text()) for n in range(STREAMS)]


def peers_that_go(folder, bodies):
    server = Server(folder, "going")
    server.start()
    stop = threading.Event()
    clients = [Client(server, bodies, stop) for _ in range(CLIENTS)]
    for c in clients:
        c.start()
    try:
        for _ in range(HANG_UPS):
            hang_up(server, random.choice(bodies))
        given = many_at_once(server, bodies[1], folder)
    finally:
        stop.set()
        for c in clients:
            c.join()
    assert not [r for c in clients for r in c.refused]
    given += [g for c in clients for g in c.given]
    size = check_log(server, given, [])
    commits = int(server.get("/metrics").decode().split("\nhm_trust_commits_total ")[1].split()[0])
    assert 0 < commits < size, "no two certificates shared a commit"
    server.kill(signal.SIGTERM)
    print(f"{HANG_UPS} peers went before their answer; {size} logged in {commits} commits")


def full_disk(folder, bodies):
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    server = Server(folder, "disk/data")
    server.start()
    given, checkpoints, refusals = [], [], []
    while len(refusals) < 5 and len(given) < CERTIFICATES_MAX:
        status, body = server.ask("POST", "/v1/certificates", bodies[len(given) % 2])
        (given if status == 201 else refusals).append(json.loads(body))
        if not refusals:
            checkpoints.append(server.get("/log/checkpoint"))
    assert len(refusals) == 5, "the disk did not fill up"
    assert {r["error"]["code"] for r in refusals} == {"FULL"}, refusals
    server.kill()
    subprocess.run(["mount", "-o", f"remount,size={32 * DISK_BYTES}", disk], check=True)
    server.start()
    for body in bodies:
        status, answer = server.ask("POST", "/v1/certificates", body)
        assert status == 201
        given.append(json.loads(answer))
    size = check_log(server, given, checkpoints)
    # Besides what was given there is the server's own, and what the audit log had no room for.
    assert len(given) < size <= len(given) + 1 + len(refusals)
    server.kill(signal.SIGTERM)
    print(f"a full disk after {len(given) - 2} certificates; {size} logged")


def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        bodies = requests()
        kills(folder, bodies)
        peers_that_go(folder, bodies)
        full_disk(folder, bodies)
    finally:
        for server in Server.started:
            if server.poll() is None:
                server.kill()
                server.wait()
        subprocess.run(["umount", folder / "disk"], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


main()
