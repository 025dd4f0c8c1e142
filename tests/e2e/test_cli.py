#!/usr/bin/env python3
"""Every command of hypermesh against a real mesh and its authority: what people see, --json beside
the API's own answer, exit codes, refusals in one line, a node that lies, imports that are cut."""
import contextlib, http.server, json, os, pty, re, signal, socket, ssl, subprocess, threading

import jsonschema
import yaml

from mesh import CLI, ROOT, Mesh, Node, isolate, say, wait_until

DONE, FAILED, USAGE, UNREACHABLE, REFUSED, NOTFOUND, DENIED = range(7)
ORDER = "big" # of lengths, base/wire.h
WORD = re.compile(r"^[0-9a-f]{64}$")


class Cli:
    """hypermesh asking one node."""

    def __init__(self, mesh, node):
        self.mesh, self.node = mesh, node
        self.env = dict(mesh.env(node), HYPERMESH_AUTHORITY="https://[::1]:8443", LC_ALL="C.UTF-8")
        self.env["TMPDIR"] = os.path.join(mesh.dir, "tmp")
        os.makedirs(self.env["TMPDIR"], exist_ok=True)
        self.schema = Schema()

    def raw(self, *args, env=None, data=None):
        e = dict(self.env)
        for k, v in (env or {}).items():
            e.pop("HYPERMESH_" + k, None)
            if v is not None:
                e["HYPERMESH_" + k] = v
        p = subprocess.run([CLI, *args], env=e, input=data, capture_output=True)
        return p.returncode, p.stdout, p.stderr.decode()

    def out(self, *args, **more):
        """What people see, when it works."""
        code, out, err = self.raw(*args, **more)
        assert code == DONE, f"{args}: exit {code}\n{out.decode()}{err}"
        assert b"\x1b" not in out, f"{args}: escapes in what is no terminal"
        return out.decode()

    def json(self, *args, schema=None, **more):
        value = json.loads(self.out(*args, "--json", **more))
        if schema:
            self.schema.valid(value, schema)
        return value

    def refused(self, code, *args, says, env=None):
        """One line on stderr; with --json an Error on stdout with the same words."""
        got, out, err = self.raw(*args, env=env)
        assert got == code, f"{args}: exit {got}, not {code}\n{out.decode()}{err}"
        lines = [l for l in err.splitlines() if l.startswith("hypermesh")]
        assert len(lines) == 1 and says in lines[0], f"{args}: {err!r} does not say {says!r}"
        got, out, err = self.raw(*args, "--json", env=env)
        assert got == code, (args, got)
        error = json.loads(out)
        self.schema.valid(error, "Error")
        assert set(error["error"]) == {"code", "message", "detail"}, error
        return error["error"]


class Schema:
    """docs/api/openapi.yaml."""

    def __init__(self):
        with open(os.path.join(ROOT, "docs/api/openapi.yaml")) as f:
            self.resolver = jsonschema.RefResolver("", yaml.safe_load(f))

    def valid(self, value, name):
        jsonschema.Draft202012Validator({"$ref": "#/components/schemas/" + name},
                                        resolver=self.resolver).validate(value)


def table(text):
    """Rows of a table as dictionaries; the columns stand where their heads do."""
    lines = text.splitlines()
    heads = [(m.start(), m.group().strip()) for m in re.finditer(r"\S+(?: \S+)*", lines[0])]
    rows = [re.split(r"  +", l.strip()) for l in lines[1:]]
    assert all(len(r) >= len(heads) - 1 for r in rows), text
    return [dict(zip((h for _, h in heads), r)) for r in rows]


def facts(text):
    found = {}
    for line in text.splitlines():
        m = re.match(r"(\S.*?)  +(.*)", line)
        if m:
            found[m.group(1)] = m.group(2)
    return found


def status_and_nodes(c):
    s, api = c.json("status", schema="Status"), c.node.get("/v1/status")
    assert set(s) == set(api) and s["id"] == api["id"] and s["chain_id"] == api["chain_id"]
    f = facts(c.out("status"))
    assert f["node"].startswith("node-1, https://") and f["state"].startswith("ready"), f
    assert f["id"] == s["id"] and f["chain"] == s["chain_id"]
    nodes = c.json("node", "list", schema="NodeList")["items"]
    assert [n["name"] for n in nodes] == ["node-1", "node-2", "node-3", "node-4"]
    rows = table(c.out("node", "list"))
    assert [r["NAME"] for r in rows] == [n["name"] for n in nodes]
    assert [r["STATE"] for r in rows] == ["this node", "up", "up", "up"], rows
    assert all(r["ID"] == n["id"] for r, n in zip(rows, nodes)), "ids are cut in a pipe"
    two = nodes[1]
    for what in ("node-2", two["id"], two["id"][:8].upper()):
        shown = c.json("node", "show", what, schema="Node")
        assert shown["id"] == two["id"], what
    f = facts(c.out("node", "show", "node-2"))
    assert f["id"] == two["id"] and f["state"].startswith("up"), f
    assert "certificate" in f and "sector" in f and "MB" in f["traffic"] or "kB" in f["traffic"], f
    c.refused(NOTFOUND, "node", "show", "node-9", says="node-9")
    c.refused(NOTFOUND, "node", "show", "abc", says="abc")
    return {n["name"]: n["id"] for n in nodes}


def who_is_asked(c, mesh):
    """No server, another's certificate, no or wrong tokens."""
    c.refused(UNREACHABLE, "status", env={"NODE": "https://[::1]:9"}, says="does it run? --node")
    c.refused(UNREACHABLE, "cert", "list", env={"AUTHORITY": "https://[::1]:9"},
              says="does it run? --authority")
    other = os.path.join(mesh.dir, "trustchain/mesh-root.crt")
    c.refused(UNREACHABLE, "status", env={"CA": other}, says="--ca or HYPERMESH_CA names")
    c.refused(UNREACHABLE, "status", env={"CA": None}, says="--ca or HYPERMESH_CA names")
    c.refused(FAILED, "status", env={"CA": "/nonexistent"}, says="/nonexistent")
    c.refused(USAGE, "status", env={"NODE": "https://127.0.0.1:8444"}, says="only IPv6")
    register = ("asset", "register", "--kind", "cpu", "--name", "never")
    c.refused(DENIED, *register, env={"TOKEN_FILE": None}, says="--token-file or HYPERMESH_TOKEN")
    c.refused(FAILED, *register, env={"TOKEN_FILE": "/nonexistent"}, says="/nonexistent: not found")
    wrong = os.path.join(mesh.dir, "trustchain/api.token")
    error = c.refused(DENIED, *register, env={"TOKEN_FILE": wrong}, says="missing or wrong")
    assert error["code"] == "DENIED", error
    c.out("status", env={"TOKEN_FILE": "/nonexistent"})  # which asks for none
    # A server that accepts and speaks no TLS.
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as s:
        def talk():
            with contextlib.suppress(OSError):
                for _ in range(2):
                    peer, _ = s.accept()
                    peer.sendall(b"no TLS here\n")
                    peer.close()
        threading.Thread(target=talk, daemon=True).start()
        c.refused(UNREACHABLE, "status", env={"NODE": f"https://[::1]:{s.getsockname()[1]}"},
                  says="no answer")


def assets(c, d, ids):
    """Everything that can be done to an asset. d: hypermesh asking node-2."""
    kinds = "cpu gpu memory storage network container service name economic".split()
    for kind in kinds:
        name = "my-name" if kind == "name" else "my " + kind # that one is a name in the DNS
        r = c.json("asset", "register", "--kind", kind, "--name", name, schema="Receipt")
        assert WORD.match(r["op"]) and WORD.match(r["asset"])
    c.refused(REFUSED, "asset", "register", "--kind", "cpu", "--name", "my cpu", says="my cpu")
    c.refused(USAGE, "asset", "register", "--kind", "cpu", says="--name NAME is needed")
    c.refused(USAGE, "asset", "register", "--kind", "car", "--name", "x", says="cpu gpu memory")
    c.refused(REFUSED, "asset", "register", "--kind", "data", "--name", "x",
              says="refused: a data asset needs a content")
    for name, says in (("", "1 to 255"), ("x" * 256, "1 to 255"), ("a\nb", "control characters"),
                       (os.fsdecode(b"a\xff"), "UTF-8"), ("a\u0085b", "control characters")):
        c.refused(FAILED, "asset", "register", "--kind", "cpu", "--name", name, says=says)
    for path, says in (("/nonexistent", "No such file"), ("/etc", "no regular file"),
                       ("/dev/null", "no regular file")):
        c.refused(FAILED, "asset", "register", "--kind", "data", "--name", "x", "--file", path,
                  says=says)

    with open("content", "wb") as f:
        f.write(os.urandom(700_001))
    open("empty", "wb").close()
    data = c.json("asset", "register", "--kind", "data", "--name", "größe/\u2028.bin", "--file",
                  "content", "--policy", "public", schema="Receipt")["asset"]
    c.out("asset", "register", "--kind", "data", "--name", "nothing", "--file", "empty")

    # Listing, and the three ways to name an asset.
    all_ = c.json("asset", "list", schema="AssetPage")
    assert all_["next"] is None and len(all_["items"]) == len(kinds) + 2
    assert all_["items"] == c.node.get("/v1/assets?limit=500")["items"]
    rows = table(c.out("asset", "list"))
    assert [r["ID"] for r in rows] == [a["id"] for a in all_["items"]]
    by_id = {r["ID"]: r for r in rows}
    assert by_id[data]["SIZE"] == "700.0 kB" and by_id[data]["NAME"] == "größe/?.bin", by_id[data]
    for option, value, count in (("--kind", "gpu", 1), ("--owner", "node-1", len(kinds) + 2),
                                 ("--owner", "node-2", 0), ("--state", "retired", 0),
                                 ("--search", "my ", len(kinds) - 1), ("--name", "my gpu", 1),
                                 ("--limit", "3", 3)):
        got = c.json("asset", "list", option, value)["items"]
        assert len(got) == count, (option, value, len(got))
    assert c.json("asset", "list", "--limit", "3")["next"] is not None
    c.refused(NOTFOUND, "asset", "list", "--owner", "node-9", says="node-9")
    for what in (data, data[:10], data[:10].upper(), "größe/\u2028.bin"):
        # A node that is slow is not waited for.
        def said(what=what):
            s = c.json("asset", "show", what)
            return all(n["answered"] for n in s["kept"]["placed"]) and s
        shown = wait_until("all nodes say what they hold", 120, said)
        kept = shown.pop("kept")
        assert shown == c.node.get("/v1/assets/" + data), what
        assert kept["here"] >= 0 and sum(n["chunks"] for n in kept["placed"]) == 3 * 3, kept
        assert sum(n["held"] for n in kept["placed"]) >= 3 * 3, kept
    f = wait_until("people see it too", 120, lambda: (
        f := facts(c.out("asset", "show", data))) and
        re.match(r"node-\d: holds \d of 3 chunks, should hold \d", f["kept"]) and f)
    assert f["content"].startswith("700.0 kB (700001 bytes) in 3 chunks"), f
    assert c.json("asset", "show", "my cpu")["kept"] is None
    c.refused(NOTFOUND, "asset", "show", "no such", says="no such")
    c.refused(NOTFOUND, "asset", "show", "0" * 64, says="no asset has this id")

    # The content.
    for what, to in ((data, "got"), ("größe/\u2028.bin", "got")):
        assert c.json("asset", "get", what, "-o", to)["size"] == 700_001
        assert open("got", "rb").read() == open("content", "rb").read()
    assert c.raw("asset", "get", data, "-o", "-")[1] == open("content", "rb").read()
    with open("appended", "wb") as f:
        f.write(b"before")
        f.flush()
        subprocess.run([CLI, "asset", "get", data, "--output", "-"], env=c.env, stdout=f, check=True)
    assert open("appended", "rb").read()[6:] == open("content", "rb").read()
    c.out("asset", "get", data, "-o", "/dev/null")
    assert not os.path.isfile("/dev/null")
    c.out("asset", "get", "nothing", "-o", "got0")
    assert os.path.getsize("got0") == 0
    c.refused(NOTFOUND, "asset", "get", "my cpu", "-o", "x", says="has no content")
    c.refused(FAILED, "asset", "get", data, "-o", "/nonexistent/x", says="No such file")
    c.refused(FAILED, "asset", "get", data, "-o", "/dev/full", says="No space left")
    assert not os.path.exists("x") and not os.path.exists("x.part")
    c.refused(DENIED, "asset", "get", "nothing", "-o", "x", env={"TOKEN_FILE": None},
              says="the asset is private")
    assert d.json("asset", "get", data, "-o", "got2")["size"] == 700_001

    # States: what is legal, what is not.
    for policy in ("public", "private"):
        assert c.json("asset", "set-policy", "my cpu", "--policy", policy)["height"] > 0
        assert c.json("asset", "show", "my cpu")["policy"] == policy
    move = lambda state: ("asset", "set-state", "my cpu", "--state", state)
    error = c.refused(REFUSED, *move("in_use"), says="an asset that is available cannot become")
    assert error["code"] == "OP_STATE", error
    for state in ("allocated", "in_use", "available", "maintenance", "available"):
        c.json(*move(state), schema="Receipt")
        assert c.json("asset", "show", "my cpu")["state"] == state
    c.out(*move("allocated"))
    assert "held by " + ids["node-1"] in facts(c.out("asset", "show", "my cpu"))["state"]
    c.out(*move("available"))
    c.refused(USAGE, *move("broken"), says="available allocated")
    c.refused(NOTFOUND, "asset", "set-state", "no such", "--state", "available", says="no such")

    # The manual says what is legal; each other change is refused.
    said = dict(re.findall(r"From (\w+): ([a-z_, ]+)\.",
                           re.sub(r"\s+", " ", c.out("asset", "set-state", "--help"))))
    assert len(said) == 6, said
    for begin, legal in said.items():
        for end in set(said) - {begin}:
            for state in {"available": (), "in_use": ("allocated", "in_use")}.get(begin, (begin,)):
                c.out(*move(state))
            if end in legal.split(", "):
                c.out(*move(end))
            else:
                c.refused(REFUSED, *move(end), says=f"cannot become {end}")
                end = begin
            if end != "available":
                c.out(*move("available"))

    # Transfer: after it, its old owner has no say; two of one name have to be told apart.
    c.out("asset", "transfer", "my gpu", "--to", "node-2")
    c.refused(DENIED, "asset", "set-state", "my gpu", "--state", "suspended", says="right")
    wait_until("node-2 has it", 120, lambda: d.json("asset", "list", "--owner", "node-2")["items"])
    d.out("asset", "set-state", "my gpu", "--state", "suspended")
    d.out("asset", "register", "--kind", "cpu", "--name", "my cpu")
    wait_until("node-1 sees both", 120,
               lambda: len(c.json("asset", "list", "--name", "my cpu")["items"]) == 2)
    c.refused(USAGE, "asset", "show", "my cpu", says="may be several")
    c.refused(NOTFOUND, "asset", "transfer", "my gpu", "--to", "node-9", says="node-9")
    gpu = c.json("asset", "list", "--name", "my gpu")["items"][0]["id"]
    history = c.json("asset", "history", gpu, schema="History")["items"]
    assert [h["action"] for h in history] == ["register", "transfer", "set_state"], history
    rows = table(c.out("asset", "history", "my gpu"))
    assert [r["OP"] for r in rows] == [f"{h['height']}/{h['index']}" for h in history]
    assert [r["BY"] for r in rows] == ["node-1", "node-1", "node-2"], rows

    c.out("asset", "retire", "my memory")
    c.refused(REFUSED, "asset", "retire", "my memory", says="retired")
    c.refused(REFUSED, "asset", "set-state", "my memory", "--state", "available", says="retired")
    return data


def terminal(c):
    """On a terminal ids are short, and what is short can be given back."""
    def see(*args):
        ours, theirs = pty.openpty()
        p = subprocess.Popen([CLI, *args], env=c.env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError): # its end
            while True:
                text += os.read(ours, 65536)
        os.close(ours)
        assert p.wait() == 0, text
        return text.decode().replace("\r\n", "\n")
    rows = table(see("asset", "list"))
    assert rows and all(re.fullmatch(r"[0-9a-f]{12}", r["ID"]) for r in rows), rows
    assert c.json("asset", "show", rows[0]["ID"])["id"].startswith(rows[0]["ID"])
    progress = see("ledger", "verify")
    assert "\r\x1b[K" in progress and "ledger        good" in progress, progress


def proofs_and_ledger(c, data):
    op = c.json("asset", "show", data)["registered_op"]
    shown = c.json("ledger", "op", op, schema="Operation")
    at = f"{shown['height']}/{shown['index']}"
    assert c.json("ledger", "op", at) == shown == c.node.get("/v1/operations/" + op)
    assert facts(c.out("ledger", "op", at))["what"] == "asset register"
    four = ["space", "stake", "work", "time"]
    for more in ((), ("--verify", "--genesis", os.path.join(c.mesh.dir, "genesis.bin"))):
        answer = c.json("proof", "show", at, *more, schema=None if more else "ProofList")
        items = answer["items"]
        assert [p["name"] for p in items] == four
        assert all(p["passed"] and p["present"] and p["checks"] for p in items), items
        assert all(k["passed"] and k["what"] for p in items for k in p["checks"])
        assert (answer.get("by"), answer.get("trust")) == (("client", "file") if more else (None,) * 2)
        text = c.out("proof", "show", op, *more)
        assert text.count(" passed  ") == 4 and "FAILED" not in text, text
        assert ("this program" if more else "its word") in facts(text)["checked by"]
    # A system operation carries neither space nor time.
    system = next(o for o in c.json("ledger", "ops", "--limit", "200")["items"]
                  if o["module"] != "asset")
    for more in ((), ("--verify",)):
        items = c.json("proof", "show", system["id"], *more)["items"]
        assert [p["present"] for p in items] == [False, True, True, False], items
    for command in (("ledger", "op"), ("proof", "show")):
        c.refused(NOTFOUND, *command, "0" * 64, says="no operation")
        c.refused(NOTFOUND, *command, f"{shown['height']}/999", says="counted from 0")
        c.refused(USAGE, *command, "what", says="no operation")

    block = c.json("ledger", "block", str(shown["height"]), schema="Block")
    assert op in block["ops"] and block == c.node.get(f"/v1/blocks/{shown['height']}")
    text = c.out("ledger", "block", str(shown["height"]))
    assert facts(text)["id"] == block["id"] and f"\n{at} " in text and op in text, text
    blocks = c.json("ledger", "list", "--limit", "150", schema="BlockPage")["items"]
    heights = [b["height"] for b in blocks]
    assert heights == list(range(heights[0], max(0, heights[0] - 150), -1)), heights
    rows = table(c.out("ledger", "list"))
    assert len(rows) == 20 and all(WORD.match(r["ID"]) for r in rows), rows
    c.refused(NOTFOUND, "ledger", "block", "0", says="no block")
    c.refused(NOTFOUND, "ledger", "block", "999999999", says="no block")
    c.refused(USAGE, "ledger", "block", "x", says="a number from 1")


def verify(c, mesh):
    """From the genesis, without trusting the node; and by the node itself."""
    genesis = os.path.join(mesh.dir, "genesis.bin")
    chain = c.json("status")["chain_id"]
    for more, trust in (((), "node"), (("--genesis", genesis), "file"), (("--chain", chain), "chain")):
        v = c.json("ledger", "verify", *more)
        assert v["good"] and v["by"] == "client" and v["trust"] == trust and v["chain_id"] == chain
        root = c.json("ledger", "block", str(v["blocks"]))["state_root"]
        assert v["state_root"] == root and v["ops"] > 0
    f = facts(c.out("ledger", "verify", "--genesis", genesis))
    assert f["ledger"].startswith("good") and "this program" in f["checked by"], f
    v = c.json("ledger", "verify", "--by-node", schema="VerifyResult")
    assert v["good"]
    assert "the node itself" in facts(c.out("ledger", "verify", "--by-node"))["checked by"]
    c.refused(DENIED, "ledger", "verify", "--by-node", env={"TOKEN_FILE": None}, says="token")
    c.refused(FAILED, "ledger", "verify", "--chain", "0" * 64, says="another chain")
    c.refused(USAGE, "ledger", "verify", "--chain", "zz", says="64 hexadecimal digits")
    c.refused(FAILED, "ledger", "verify", "--genesis", "/etc/hostname", says="is no genesis")
    c.refused(FAILED, "ledger", "verify", "--genesis", "/nonexistent", says="/nonexistent")
    assert os.listdir(c.env["TMPDIR"]) == [], "a store is left"
    p = subprocess.Popen([CLI, "ledger", "verify"], env=c.env, stderr=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL)
    # Its files and then its folder.
    wait_until("its store has no name any more", 120, lambda: p.poll() is not None or
               any("(deleted)" in l for l in open(f"/proc/{p.pid}/maps")) and
               not os.listdir(c.env["TMPDIR"]))
    p.kill()
    p.wait()
    assert os.listdir(c.env["TMPDIR"]) == [], "a store is left by kill -9"


class Liar(http.server.BaseHTTPRequestHandler):
    """Gives what the node gives, but for what lie() makes of it."""
    protocol_version = "HTTP/1.1"
    node, lie, one = None, None, threading.Lock()

    def log_message(self, *_):
        pass

    def do_GET(self):
        with Liar.one: # who left may not have been noticed yet
            data = Liar.node.get(self.path, raw=True)
        data = Liar.lie(self.path, data)
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class LiarServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def lies(c, op):
    """Each lie of a node about its chain is found, and the block named."""
    server = LiarServer(("::1", 0), Liar)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=liar", "-addext", "subjectAltName=IP:::1",
                    "-keyout", "liar.key", "-out", "liar.crt"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("liar.crt", "liar.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node, Liar.node = c.node, Node(c.mesh, c.node.number) # a connection of its own
    env = {"NODE": f"https://[::1]:{server.server_address[1]}", "CA": os.path.abspath("liar.crt")}
    shown = c.json("ledger", "op", op)
    height = shown["height"]
    raw = f"/v1/blocks/{height}/raw"

    def parts(data):
        n = int.from_bytes(data[:4], ORDER)
        return data[4:4 + n], data[8 + n:]

    def join(*both):
        return b"".join(len(x).to_bytes(4, ORDER) + x for x in both)

    honest = node.get(raw, raw=True)
    block, certificate = parts(honest)
    other_block, other_certificate = parts(node.get(f"/v1/blocks/{height - 1}/raw", raw=True))
    flip = lambda b, at: b[:at] + bytes([b[at] ^ 1]) + b[at + 1:]
    header = 197  # mesh/block.h
    for what, answer in (("a root of the state", join(flip(block, header - 1), certificate)),
                         ("the header's parent", join(flip(block, 60), certificate)),
                         ("an operation's byte", join(flip(block, header + 200), certificate)),
                         ("the last byte", join(flip(block, len(block) - 1), certificate)),
                         ("a signature", join(block, flip(certificate, len(certificate) - 30))),
                         ("another's certificate", join(block, other_certificate)),
                         ("another block", join(other_block, other_certificate)),
                         ("no certificate", join(block, b"")),
                         ("half a block", honest[:len(honest) // 2]),
                         ("nothing", b"")):
        Liar.lie = lambda path, data, answer=answer: answer if path == raw else data
        for command in (("ledger", "verify"), ("proof", "show", op, "--verify")):
            code, _, err = c.raw(*command, env=env)
            assert code == FAILED and f"block {height}: " in err, (what, command, code, err)
    # A block that has no operation at the end of the list, and an operation said to be elsewhere.
    Liar.lie = lambda path, data: (data.replace(b'"height":%d' % height, b'"height":%d' % (height - 1))
                                   if path == "/v1/operations/" + op else data)
    code, _, err = c.raw("proof", "show", op, "--verify", env=env)
    assert code == FAILED and "it is not" in err, err
    Liar.lie = lambda path, data: data
    assert c.json("ledger", "verify", env=env)["good"]
    server.shutdown()


def certificates(c, mesh):
    authority = {"TOKEN_FILE": os.path.join(mesh.dir, "trustchain/api.token")}
    roots = {f: os.path.join(mesh.dir, f"trustchain/{f}-root.crt") for f in ("mesh", "edge")}
    listed = c.json("cert", "list")["items"]
    assert len(listed) >= 9 and c.json("cert", "list", "--limit", "2")["next"]
    assert {x["family"] for x in c.json("cert", "list", "--family", "mesh")["items"]} == {"mesh"}
    assert all("node-2" in x["subject"] for x in c.json("cert", "list", "--search", "node-2")["items"])
    rows = table(c.out("cert", "list"))
    assert [r["SERIAL"] for r in rows] == [x["serial"] for x in listed]
    own = os.path.join(c.node.dir, "node.crt")
    shown = c.json("cert", "show", own)
    assert c.json("cert", "show", shown["serial"])["state"] == "valid"
    assert facts(c.out("cert", "show", own))["subject"] == "CN=node-1"
    good = c.json("cert", "verify", own, "--root", roots["mesh"])
    assert good["good"] and good["node"] == c.json("status")["id"]
    assert "checked here" in c.out("cert", "verify", own, "--root", roots["mesh"])
    c.refused(FAILED, "cert", "verify", own, "--root", roots["edge"], says="trusted root")
    c.refused(FAILED, "cert", "verify", "/etc/hostname", "--root", roots["mesh"], says="PEM")
    c.refused(FAILED, "cert", "verify", "/nonexistent", "--root", roots["mesh"], says="/nonexistent")
    csr = os.path.join(c.node.dir, "node.csr")
    c.refused(DENIED, "cert", "issue", csr, "-o", "new.crt", says="missing or wrong")
    made = c.json("cert", "issue", csr, "-o", "new.crt", env=authority)
    c.out("cert", "verify", "new.crt", "--root", roots["mesh"])
    c.refused(REFUSED, "cert", "issue", "/etc/hostname", "-o", "x.crt", env=authority,
              says="CERTIFICATE REQUEST")
    c.refused(REFUSED, "cert", "issue", csr, "-o", "x.crt", "--profile", "server", env=authority,
              says="ECDSA")
    c.refused(FAILED, "cert", "issue", "/nonexistent", "-o", "x.crt", says="/nonexistent")
    c.refused(NOTFOUND, "cert", "revoke", "f" * 32, env=authority, says="serial")
    c.refused(USAGE, "cert", "show", "neither", says="neither a file nor a serial")
    c.refused(USAGE, "cert", "revoke", made["serial"], "--reason", "whim", says="keyCompromise")
    c.refused(DENIED, "cert", "revoke", made["serial"], says="missing or wrong")
    assert c.json("cert", "revoke", made["serial"], "--reason", "superseded",
                  env=authority)["state"] == "revoked"
    f = facts(c.out("cert", "show", made["serial"]))
    assert f["state"] == "revoked" and f["reason"] == "superseded", f
    crl = subprocess.run(["curl", "-sS", "-g", "--cacert", mesh.ca,
                          "https://[::1]:8443/v1/crl?family=mesh"], capture_output=True, check=True)
    with open("crl.der", "wb") as out:
        out.write(crl.stdout)
    c.refused(FAILED, "cert", "verify", "new.crt", "--root", roots["mesh"], "--crl", "crl.der",
              says="revoked")


def imports(c, d):
    """Odd names, what is no file, what cannot be read; cut off and begun again."""
    os.makedirs("odd/nested/deep/er")
    names = ["plain", "empty", "nested/deep/er/x", "l" * 255, " lead", "trail ", "größe €",
             "quote\"back\\slash", "-dash", "%41", "a&b=c?d#e+f"]
    refused = [b"new\nline", b"tab\tx", b"nonutf8-\xff\xfe", b"esc\x1b[31m", b"del\x7f",
               "c1\u0085x".encode(), "bidi\u202etxt".encode(), b" ", b"nested/" + b"q" * 250]
    for i, name in enumerate(names):
        with open("odd/" + name, "wb") as f:
            f.write(name.encode() * i * 40)
    for name in refused:
        open(b"odd/" + name, "wb").close()
    os.symlink("plain", "odd/link")
    os.symlink("/nonexistent", "odd/dangling")
    os.symlink("/etc", "odd/folder")
    os.mkfifo("odd/pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("odd/socket")
    for again in (False, True):
        code, out, err = c.raw("asset", "import", "odd", "--json", "--policy", "public")
        v = json.loads(out)
        assert code == FAILED, (code, err)
        assert v["imported"] == (0 if again else len(names)), (v, err)
        assert v["there_already"] == (len(names) if again else 0), (v, err)
        assert v["failed"] == len(refused) and v["not_regular"] == 5, v
        assert err.count("control characters") + err.count("1 to 255") == len(refused), err
        assert "\x1b" not in err, "a name drives the terminal"
    for name in names:
        d.out("asset", "get", "-o", "back", "--", name)
        assert open("back", "rb").read() == open("odd/" + name, "rb").read(), name
    for place in ("odd/nested", "odd/nested/", "./odd//nested"):
        v = json.loads(c.raw("asset", "import", place, "--json")[1])
        assert v["imported"] + v["there_already"] == 2, (place, v)
    c.refused(FAILED, "asset", "import", "nowhere", says="nowhere is no folder")
    c.refused(FAILED, "asset", "import", "content", says="content is no folder")
    c.refused(USAGE, "asset", "import", "odd", "--jobs", "0", says="--jobs is")
    os.mkdir("hollow")
    assert c.json("asset", "import", "hollow")["files"] == 0

    os.makedirs("many/folder")
    for i in range(700):
        with open(f"many/folder/{i}", "wb") as f:
            f.write(b"%d\n" % i * (i % 50))
    code, out, err = c.raw("asset", "import", "many", "--json", env={"TOKEN_FILE": None})
    assert code == DENIED and err.count("\n") == 1 and "700 files are left" in err, (code, err)
    for sig in (signal.SIGINT, signal.SIGKILL, signal.SIGINT):
        before = len(c.json("asset", "list", "--search", "folder/")["items"])
        p = subprocess.Popen([CLI, "asset", "import", "many", "--jobs", "4"], env=c.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until("some are imported", 120, lambda: p.poll() is not None or
                   len(c.json("asset", "list", "--search", "folder/")["items"]) > before + 20)
        p.send_signal(sig)
        out, err = p.communicate()
        if p.returncode == 0:
            break # it was faster
        assert p.returncode == -sig, (p.returncode, err)
        assert sig == signal.SIGKILL or "the same command goes on with them" in err, err
    v = c.json("asset", "import", "many")
    assert v["imported"] + v["there_already"] == 700 and v["there_already"] > 20, v
    rest = c.json("asset", "import", "many")
    assert (rest["imported"], rest["there_already"]) == (0, 700), rest
    # More than a page of the API.
    found = c.json("asset", "list", "--search", "folder/", schema="AssetPage")
    assert len({a["id"] for a in found["items"]}) == 700 and found["next"] is None
    assert len(table(c.out("asset", "list", "--search", "folder/"))) == 700
    assert len(c.json("asset", "list", "--search", "folder/", "--limit", "650")["items"]) == 650


def names(c, d):
    """Everything that can be done to a name; what others make of it is in test_dns.py."""
    r = c.json("dns", "register", "shop", "--aaaa", "2001:db8::1,2001:db8::2", "--ttl", "30",
               "--days", "10", schema="Receipt")
    n = c.json("dns", "show", "shop", schema="Name")
    assert n["asset"] == r["asset"] and n["full"] == "shop.dev.internal", n
    assert n["expires_ms"] - n["registered_ms"] == 10 * 86400000, n
    assert [(x["type"], x["ttl"], x["data"]) for x in n["records"]] == [
        ("AAAA", 30, "2001:db8::1"), ("AAAA", 30, "2001:db8::2")], n
    c.refused(REFUSED, "dns", "register", "shop", says="is taken")
    c.refused(REFUSED, "dns", "register", "Shop", says="a-z")
    c.refused(REFUSED, "dns", "register", "x", "--aaaa", "127.0.0.1", says="no IPv6 address")
    c.refused(USAGE, "dns", "register", "x", "--days", "0", says="days")
    c.refused(NOTFOUND, "dns", "show", "nobody", says="nobody has this name")
    c.refused(USAGE, "dns", "set", "shop", says="--aaaa or --txt")
    c.out("dns", "set", "shop", "--txt", 'a "b" \\')
    c.out("dns", "set", "shop.dev.internal", "--aaaa", "2001:db8::3")
    c.out("dns", "renew", "shop", "--days", "20")
    c.refused(REFUSED, "dns", "renew", "shop", "--days", "1", says="longer already")
    n = c.json("dns", "show", "shop.dev.internal.")
    assert [(x["type"], x["data"]) for x in n["records"]] == [
        ("TXT", '"a \\"b\\" \\\\"'), ("AAAA", "2001:db8::3")], n
    shown = facts(c.out("dns", "show", "shop"))
    assert shown["name"] == "shop.dev.internal" and "published" in shown["state"], shown
    c.out("dns", "register", "part")
    c.out("dns", "delegate", "part", "--ns", "ns.example.net", "--ds", "1 13 2 " + "ab" * 32)
    assert [x["type"] for x in c.json("dns", "show", "part")["records"]] == ["NS", "DS"]
    c.refused(REFUSED, "dns", "register", "x.part", says="delegated")
    c.refused(REFUSED, "dns", "delegate", "part", "--ns", "ns.part.dev.internal", says="below")
    c.out("dns", "set", "part", "--aaaa", "2001:db8::4") # no delegation any more
    c.out("dns", "transfer", "shop", "--to", "node-2")
    c.refused(DENIED, "dns", "set", "shop", "--txt", "mine", says="right")
    wait_until("node-2 has it", 120,
               lambda: d.json("dns", "show", "shop")["owner_name"] == "node-2")
    d.out("dns", "set", "shop", "--txt", "yours")
    rows = table(c.out("dns", "list", "--owner", "node-1", "--search", "part"))
    assert [x["NAME"] for x in rows] == ["part.dev.internal"], rows
    assert len(c.json("dns", "list", schema="NamePage")["items"]) >= 3
    zone = wait_until("every node's key is in the zone", 120, lambda: (
        z := c.json("dns", "zone", schema="Zone")) and len(z["keys"]) == 4 and z)
    assert zone["zone"] == "dev.internal"
    assert zone["keys"][0]["ds"] in c.out("dns", "zone")

    wait_until("the other node answers", 120, lambda: c.json(
        "dns", "resolve", "shop", "--type", "TXT", "--server", "[::1]:8854")["records"][0]["data"]
        == '"yours"')
    out = c.out("dns", "resolve", "shop.dev.internal")
    assert "2001:db8::3" in out and "signed by a key of the zone" in out, out
    out = c.out("dns", "resolve", "nobody", "--type", "TYPE65")
    assert "has no TYPE65 records" in out and "signed by a key" in out, out
    c.refused(USAGE, "dns", "resolve", "shop", "--type", "WORD", says="--type")
    c.refused(DENIED, "dns", "resolve", "example.org.", says="REFUSED")
    c.refused(UNREACHABLE, "dns", "resolve", "shop", "--server-name", "other.example", says="root")
    # With a ticket the question leaves with the first packet.
    first = c.json("dns", "resolve", "shop", "--session", "ticket")
    again = c.json("dns", "resolve", "shop", "--session", "ticket", "--early")
    assert first["secure"] and again["secure"] and again["early"] == "accepted", again
    assert c.node.metric("hm_dns_early_total") == 1


def main():
    isolate()
    with Mesh() as mesh:
        os.chdir(mesh.dir)
        c, d = Cli(mesh, mesh.nodes[0]), Cli(mesh, mesh.nodes[1])
        say("status, node")
        ids = status_and_nodes(c)
        who_is_asked(c, mesh)
        say("asset")
        data = assets(c, d, ids)
        terminal(c)
        say("dns")
        names(c, d)
        say("proof, ledger")
        proofs_and_ledger(c, data)
        verify(c, mesh)
        say("a node that lies")
        lies(c, c.json("asset", "show", data)["registered_op"])
        say("cert")
        certificates(c, mesh)
        say("asset import")
        imports(c, d)
        verify(c, mesh)
        say("passed")


main()
