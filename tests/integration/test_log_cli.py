#!/usr/bin/python3
"""hypermesh log against an authority: head, show, verify and monitor on a log that is as it should
be, from the authority and from a folder of tiles; and what they say of tiles that were changed, of
certificates of others, and of a log whose store was set back and went on differently.
usage: test_log_cli.py TRUSTCHAIN_SERVER FALCON_FOLDER HYPERMESH
"""
import base64
import gzip
import http.server
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from trust_server import Server, openssl

HYPERMESH = os.path.realpath(sys.argv[3])
ENTRIES = 300  # two tiles of entries, and one of level 1
ALARM = 8


class Tool:
    def __init__(self, server, folder):
        self.server, self.folder = server, folder

    def run(self, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HYPERMESH_")}
        env["HYPERMESH_AUTHORITY"] = f"https://[::1]:{self.server.port or 1}"
        env["HYPERMESH_CA"] = str(self.server.dir / "edge-root.crt")
        p = subprocess.run([HYPERMESH, "log", *args], env=env, cwd=self.folder, text=True,
                           capture_output=True)
        return p.returncode, p.stdout, p.stderr

    def good(self, *args):
        code, out, err = self.run(*args, "--json")
        assert code == 0, (args, code, out, err)
        return json.loads(out)

    def lines(self, *args, code=0):
        got, out, err = self.run(*args, "--json")
        assert got == code, (args, got, out, err)
        return [json.loads(l) for l in out.splitlines()], err

    def bad(self, *args, says, code=1):
        got, out, err = self.run(*args)
        assert got == code and says in err, (args, got, out, err)


def request(name):
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                  "-keyout", "/dev/null", "-subj", "/", "-addext", f"subjectAltName=DNS:{name}")
    return json.dumps({"profile": "server", "csr": csr.decode()})


def issue(server, body, count=1):
    given = []
    for _ in range(count):
        status, answer = server.ask("POST", "/v1/certificates", body)
        assert status == 201, answer
        given.append(json.loads(answer))
    return given


def wait_for_size(tool, size):
    """A checkpoint is signed at most once a second."""
    until = time.monotonic() + 180
    while True:
        head = tool.good("head")
        if head["size"] >= size:
            return head
        assert time.monotonic() < until, head
        time.sleep(0.05)


def save_tiles(server, folder, size):
    """The log as files, as anybody could serve it."""
    folder.mkdir()
    (folder / "checkpoint").write_bytes(server.get("/log/checkpoint"))
    for level, count in (("0", size), ("data", size), ("1", size // 256)):
        for n in range((count + 255) // 256):
            width = min(256, count - 256 * n)
            name = f"tile/{level}/{n:03}" + (f".p/{width}" if width < 256 else "")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(server.get("/log/" + name))


def good_log(server, tool, folder):
    given = issue(server, request("web.test"), ENTRIES)
    size = ENTRIES + 1  # with the server's own
    head = wait_for_size(tool, size)
    assert head["size"] == size and head["origin"] == "test/log", head
    note = server.get("/log/checkpoint").decode().split("\n")
    assert note[1] == str(size)
    assert bytes.fromhex(head["root"]) == base64.b64decode(note[2])
    tool.good("head", "-o", "kept")
    whole = tool.good("verify")
    assert whole["good"] and whole["size"] == size and whole["tiles"] == 5, whole
    assert tool.good("verify", "--from", "kept")["from"] == size
    for n in (0, 255, 256, ENTRIES - 1):
        (folder / "one.crt").write_text(given[n]["chain"])
        found = tool.good("verify", "--cert", "one.crt", "--from", "kept")
        assert found["good"] and found["index"] == n + 1, found  # behind the server's own
        shown = tool.good("show", "--cert", "one.crt")
        assert shown["certificate"]["serial"] == given[n]["serial"], shown
        assert shown["certificate"]["names"] == ["DNS:web.test"], shown
        assert shown == tool.good("show", str(n + 1))
    tool.bad("show", str(size), says="counted from 0", code=5)
    code, out, _ = tool.run("show", "0")
    assert code == 0 and "localhost" in out, out
    return given, size


def other_certificates(tool, folder, given):
    """What the log did not promise is not found in it."""
    other = Server(folder, "other")
    other.start()
    chain = issue(other, request("web.test"))[0]["chain"]
    other.kill(signal.SIGTERM)
    (folder / "other.crt").write_text(chain)
    tool.bad("verify", "--cert", "other.crt", says="SCTs of other logs")
    leaf, issuing = given[0]["chain"].split("-----END CERTIFICATE-----\n", 1)
    (folder / "alone.crt").write_text(leaf + "-----END CERTIFICATE-----\n")
    tool.bad("verify", "--cert", "alone.crt", says="lacks the issuing CA")
    foreign = chain.split("-----END CERTIFICATE-----\n", 1)[1]
    (folder / "mixed.crt").write_text(leaf + "-----END CERTIFICATE-----\n" + foreign)
    tool.bad("verify", "--cert", "mixed.crt", says="for this issuer")
    (folder / "root.crt").write_text(issuing + issuing)
    tool.bad("verify", "--cert", "root.crt", says="has no SCT")


def changed_tiles(server, tool, folder, size):
    tiles, key = folder / "tiles", folder / "log.pem"
    save_tiles(server, tiles, size)
    key.write_bytes(server.get("/v1/log/key"))
    local = ("--tiles", str(tiles), "--key", str(key))
    assert tool.good("verify", *local)["trust"] == "file"
    tool.bad("verify", "--tiles", str(tiles), says="--key", code=2)
    for name, at in (("tile/0/000", 31), ("tile/0/001.p/45", 7), ("tile/1/000.p/1", 0),
                     ("tile/data/000", 20), ("tile/data/001.p/45", -9), ("checkpoint", 12),
                     ("checkpoint", -9)):
        good = (tiles / name).read_bytes()
        changed = bytearray(good)
        changed[at] ^= 1
        (tiles / name).write_bytes(bytes(changed))
        code, out, err = tool.run("verify", *local)
        # The chain of fingerprints behind an entry is not part of what the log promises.
        assert code == (0 if (name, at) == ("tile/data/001.p/45", -9) else 1), (name, out, err)
        (tiles / name).write_bytes(good)
    for name in ("tile/0/000", "tile/data/001.p/45"):
        (tiles / name).rename(folder / "away")
        tool.bad("verify", *local, says="is not there", code=5)
        (folder / "away").rename(tiles / name)
    shutil.copy(key, folder / "good.pem")
    good = (tiles / "tile/0/000").read_bytes()
    (tiles / "tile/0/000").write_bytes(good[:-1])
    tool.bad("verify", *local, says="bytes, not")
    (tiles / "tile/0/000").write_bytes(good)
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "k")
    openssl("pkey", "-in", folder / "k", "-pubout", "-out", key)
    tool.bad("verify", *local, says="did not sign this checkpoint")


class Tiles(http.server.BaseHTTPRequestHandler):
    """Files of a folder; entries come packed, as static-ct-api lets a log do without asking."""
    folder = None

    def do_GET(self):
        path = self.folder / self.path.removeprefix("/some/where/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        if "data" in path.parts:
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class TilesServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def tiles_of_a_server(server, tool, folder):
    """By a server that is not ours, under a path."""
    (folder / "tiles").rename(folder / "served")
    Tiles.folder = folder / "served"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.dir / "server.crt", server.dir / "server.key")
    with TilesServer(("::1", 0), Tiles) as s:
        s.socket = context.wrap_socket(s.socket, server_side=True)
        threading.Thread(target=s.serve_forever, daemon=True).start()
        where = f"https://[::1]:{s.server_address[1]}/some/where"
        whole = tool.good("verify", "--tiles", where, "--key", "good.pem")
        assert whole["size"] == ENTRIES + 1 and whole["tiles"] == 5, whole
        (folder / "served/tile/0/000").unlink()
        tool.bad("verify", "--tiles", where, "--key", "good.pem", says="404", code=5)
        s.shutdown()


def whole_tiles(server, tool, folder, size):
    """A log may keep no part of a tile that is whole by now, and its checkpoint be an older one."""
    issue(server, request("web.test"), 512 - size)
    wait_for_size(tool, 512)
    save_tiles(server, folder / "whole", 512)
    (folder / "whole/tile/1/000.p/1").write_bytes(server.get("/log/tile/1/000.p/1"))
    shutil.copy(folder / "kept", folder / "whole/checkpoint")
    found = tool.good("verify", "--tiles", str(folder / "whole"), "--key", "good.pem")
    assert found["size"] == ENTRIES + 1, found


def following(server, tool, folder):
    """Without --once it goes on, and says what comes."""
    argv = [HYPERMESH, "log", "monitor", "--state", "follow", "--names", "later.test", "--json"]
    env = dict(os.environ, HYPERMESH_AUTHORITY=f"https://[::1]:{server.port}",
               HYPERMESH_CA=str(server.dir / "edge-root.crt"))
    p = subprocess.Popen(argv, env=env, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 180
        while not (folder / "follow").exists():  # the first pass is over
            assert p.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        later = issue(server, request("later.test"))[0]
        assert select.select([p.stdout], [], [], 180)[0], "nothing was said"
        assert json.loads(p.stdout.readline())["serial"] == later["serial"]
    finally:
        p.kill()
        p.wait()


def watching(server, tool, folder, size):
    """The first run reads everything, the next what is new; a surprise stays one."""
    seen, _ = tool.lines("monitor", "--state", "state", "--names", "web.test", "--once")
    assert len(seen) == ENTRIES and all(s["names"] for s in seen)
    seen, _ = tool.lines("monitor", "--state", "state", "--names", "web.test", "--once")
    assert not seen
    mine = issue(server, request("www.example"), 2)
    issue(server, request("other.test"))
    wait_for_size(tool, size + 3)
    shutil.copy(folder / "state", folder / "before")
    for names in ("a.test,www.example", ".example", "WWW.EXAMPLE"):
        shutil.copy(folder / "before", folder / "state")
        seen, _ = tool.lines("monitor", "--state", "state", "--names", names, "--once")
        assert [s["serial"] for s in seen] == [m["serial"] for m in mine], names
    watch = ("monitor", "--state", "state", "--names", "www.example", "--once", "--expected")
    shutil.copy(folder / "before", folder / "state")
    for _ in range(2):  # until it is expected
        seen, err = tool.lines(*watch, mine[0]["serial"], code=ALARM)
        assert "ALARM" in err and mine[1]["serial"] in err, err
        assert [s["expected"] for s in seen if "serial" in s] == [True, False], seen
    (folder / "list").write_text("".join(m["serial"] + "\n" for m in mine))
    seen, _ = tool.lines(*watch, "list")
    assert len(seen) == 2
    assert (folder / "state").read_bytes() == server.get("/log/checkpoint")
    assert tool.good("verify", "--from", "before")["from"] == size


def forked(server, tool, folder, size):
    """The store is copied, the log goes on; then the copy takes its place and goes on differently."""
    watch = ("monitor", "--state", "state", "--once")
    server.kill(signal.SIGTERM)
    copy = folder / "copy"
    shutil.copytree(server.dir, copy, symlinks=True)
    server.start()
    issue(server, request("first.test"), 3)
    wait_for_size(tool, size + 3)
    tool.lines(*watch)
    server.kill(signal.SIGTERM)
    kept = (folder / "state").read_bytes()
    shutil.rmtree(server.dir)
    copy.rename(server.dir)
    server.start()
    tool.bad(*watch, says="older than the one kept", code=7)  # signed before: a stale copy
    issue(server, request("second.test"))
    wait_for_size(tool, size + 1)
    tool.bad(*watch, says="ALARM: the log was set back", code=ALARM)
    issue(server, request("second.test"), 2)
    wait_for_size(tool, size + 3)
    tool.bad(*watch, says="ALARM: the log is split", code=ALARM)
    issue(server, request("second.test"))
    wait_for_size(tool, size + 4)
    tool.bad(*watch, says="are others than they were", code=ALARM)
    (folder / "fork").write_bytes(kept)
    tool.bad("verify", "--from", "fork", says="are others than those of --from")
    assert (folder / "state").read_bytes() == kept, "the state moved"
    both = (folder / "state.alarm").read_bytes()
    assert kept in both and server.get("/log/checkpoint") in both


def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        server = Server(folder)
        server.start()
        tool = Tool(server, folder)
        given, size = good_log(server, tool, folder)
        other_certificates(tool, folder, given)
        changed_tiles(server, tool, folder, size)
        tiles_of_a_server(server, tool, folder)
        watching(server, tool, folder, size)
        following(server, tool, folder)
        whole_tiles(server, tool, folder, size + 4)
        forked(server, tool, folder, 512)
        print(f"a log of {size} entries and more was verified, watched, and its fork found")
    finally:
        for process in Server.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(folder)


main()
