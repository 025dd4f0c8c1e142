#!/usr/bin/env python3
"""A running node answers as docs/api/openapi.yaml says: every path and method, every answer."""
import hashlib, http.client, json, os, re, socket, struct, subprocess, time

import jsonschema
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mesh import CLI, ROOT, Mesh, isolate, say, wait_until

METHODS = ("get", "post", "put", "patch", "delete")


class Api:
    """Asks one node and holds each answer against the definition."""

    def __init__(self, mesh, node):
        self.mesh, self.node = mesh, node
        self.seen = set()  # (method, path of the definition, status)
        with open(os.path.join(ROOT, "docs/api/openapi.yaml")) as f:
            self.text = f.read()
        self.doc = yaml.safe_load(self.text)
        self.resolver = jsonschema.RefResolver("", self.doc)

    def valid(self, value, schema):
        if isinstance(schema, str):
            schema = {"$ref": "#/components/schemas/" + schema}
        jsonschema.Draft202012Validator(schema, resolver=self.resolver).validate(value)

    def definition(self, path):
        bare = path.split("?")[0]
        fits = [p for p in self.doc["paths"]
                if re.fullmatch(re.sub(r"\{[a-z]+\}", "[^/]+", re.escape(p).replace(r"\{", "{")
                                       .replace(r"\}", "}")), bare)]
        fits.sort(key=lambda p: p.count("{"))
        return fits[0] if fits else None

    def raw(self, method, path, body=None, headers=None, token=True, port=None, plain=False):
        if plain:
            c = http.client.HTTPConnection("::1", port, timeout=120)
        else:
            c = http.client.HTTPSConnection("::1", port or self.node.port, timeout=120,
                                            context=self.mesh.tls)
        headers = dict(headers or {})
        if token:
            headers["authorization"] = "Bearer " + self.mesh.token(self.node)
        c.request(method, path, body, headers)
        answer = c.getresponse()
        data = answer.read()
        c.close()
        return answer, data

    def check(self, method, path, answer, data):
        """The answer is one that the definition has."""
        where = f"{method} {path}: {answer.status} {data[:200]!r}"
        assert answer.getheader("x-content-type-options") == "nosniff", where
        assert "frame-ancestors 'none'" in answer.getheader("content-security-policy"), where
        type_ = (answer.getheader("content-type") or "").split(";")[0]
        of = self.definition(path)
        what = self.doc["paths"].get(of, {}).get(method.lower())
        if what is None:
            assert answer.status in (400, 404, 405), where
            value = json.loads(data)
            self.valid(value, "Error")
            return value
        self.seen.add((method.lower(), of, answer.status))
        responses = what["responses"]
        said = responses.get(str(answer.status), responses["default"])
        if said is responses["default"]:
            assert answer.status >= 400, where
        assert type_ in said["content"], f"{where}: {type_}, not one of {list(said['content'])}"
        schema = said["content"][type_].get("schema")
        if type_ == "application/json":
            value = json.loads(data)
            try:
                self.valid(value, schema)
            except jsonschema.ValidationError as e:
                raise AssertionError(f"{where}: {e.message} at {list(e.absolute_path)}")
            return value
        return data

    def ask(self, method, path, body=None, want=(200, 201), **more):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        if body is None and method == "POST":
            body = b""
        answer, data = self.raw(method, path, body, **more)
        value = self.check(method, path, answer, data)
        want = (want,) if isinstance(want, int) else want
        assert answer.status in want, f"{method} {path}: {answer.status} {data[:300]!r}"
        return value

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def refused(self, status, code, method, path, body=None, **more):
        e = self.ask(method, path, body, want=status, **more)["error"]
        assert e["code"] == code and e["message"], f"{method} {path}: {e}, not {code}"
        return e["detail"]


def every_item(api, path, per_page):
    items, cursor, sep = [], "", "&" if "?" in path else "?"
    while True:
        page = api.get(f"{path}{sep}limit={per_page}{cursor}")
        assert len(page["items"]) <= per_page
        items += page["items"]
        if not page["next"]:
            return items
        cursor = "&cursor=" + page["next"]


def nodes(api, mesh):
    s = wait_until("the node is ready", 120, lambda: (s := api.get("/v1/status"))["ready"] and s)
    assert s["name"] == "node-1" and s["validators"] == 4 and s["quorum"] == 3
    all_ = api.get("/v1/nodes")["items"]
    assert [n["name"] for n in all_] == ["node-1", "node-2", "node-3", "node-4"]
    assert [n["self"] for n in all_] == [True, False, False, False]
    for n in all_:
        one = api.get("/v1/nodes/" + n["id"])
        assert one["id"] == api.get("/v1/nodes/" + n["name"])["id"] == n["id"]
        assert one["certificate"] == n["certificate"] and not n["certificate"]["revoked"]
        assert n["certificate"]["not_before_ms"] < time.time() * 1000 < n["certificate"]["not_after_ms"]
        assert n["stake"] == n["power"] == 100 and n["slashed_height"] == 0
        sector = os.path.getsize(os.path.join(mesh.dir, n["name"], "sector-0"))
        assert 0 < n["sector"]["bytes"] <= sector, (n["sector"], sector)
        assert n["api"] == mesh.nodes[all_.index(n)].url
    api.refused(404, "NOTFOUND", "GET", "/v1/nodes/nobody")


def answered(api, made, names):
    """The list of chunks once just these nodes say what they hold: who is slow is left out."""
    return wait_until(f"an answer of {names}", 120, lambda: (
        page := api.get(f"/v1/assets/{made['asset']}/chunks")) and
        set(page["answered"]) == names and page)


def assets(api, mesh):
    """Registers, changes and lists; returns a data asset and the receipt of its registration."""
    bytes_ = os.urandom(600_000)
    content = api.ask("POST", "/v1/content", bytes_, want=201)
    assert content["size"] == len(bytes_) and content["chunks"] == 3
    made = api.ask("POST", "/v1/assets", {"kind": "data", "name": "open", "policy": "public",
                                          "content": content}, want=201)
    private = api.ask("POST", "/v1/assets", {"kind": "data", "name": "closed", "content": content},
                      want=201)
    other = api.get("/v1/nodes/node-2")["id"]
    given = api.ask("POST", "/v1/assets", {"kind": "gpu", "name": "given"}, want=201)["asset"]
    path = "/v1/assets/" + given
    api.ask("POST", path + "/policy",
            {"policy": "private", "grants": [{"node": other, "rights": ["read", "use"]}]}, want=201)
    assert api.get(path)["grants"] == [{"node": other, "rights": ["read", "use"]}]
    api.ask("POST", path + "/state", {"state": "maintenance"}, want=201)
    api.ask("POST", path + "/transfer", {"to": other}, want=201)
    a = api.get(path)
    assert a["owner"] == other and a["owner_name"] == "node-2" and a["state"] == "maintenance"
    history = every_item(api, path + "/history", 1)
    assert [h["action"] for h in history] == ["register", "set_policy", "set_state", "transfer"]
    assert history == api.get(path + "/history")["items"]
    assert {h["actor_name"] for h in history} == {"node-1"}
    gone = api.ask("POST", "/v1/assets", {"kind": "cpu", "name": "gone"}, want=201)["asset"]
    api.ask("POST", f"/v1/assets/{gone}/retire", want=201)
    assert api.get("/v1/assets/" + gone)["state"] == "retired"

    names = [x["name"] for x in every_item(api, "/v1/assets", 2)]
    assert names == ["gone", "given", "closed", "open"], names
    for query, want in (("q=o", ["gone", "closed", "open"]), ("kind=gpu", ["given"]),
                        ("state=retired", ["gone"]), ("owner=node-2", ["given"]),
                        ("owner=" + other, ["given"]), ("name=open", ["open"]), ("q=zzz", []), ("q=OPE", ["open"])):
        have = [x["name"] for x in api.get("/v1/assets?" + query)["items"]]
        assert have == want, (query, have)

    path = "/v1/assets/" + made["asset"]
    assert api.get(path + "/content") == bytes_
    chunks = every_item(api, path + "/chunks", 2)
    assert [c["index"] for c in chunks] == [0, 1, 2]
    at = 0
    for c in chunks:
        assert hashlib.sha256(bytes_[at:at + c["bytes"]]).hexdigest() == c["hash"]
        assert len(set(c["nodes"])) == 3 and set(c["nodes"]) < {n.name for n in mesh.nodes}
        assert c["here"] # the node that took them keeps them
        at += c["bytes"]
    assert at == len(bytes_)
    # A node that does not hold the list gives the same.
    held = [1] * len(chunks)
    for n in mesh.nodes[1:]:
        wait_until("the asset is on " + n.name, 120, lambda n=n: "open" in n.assets())
        there = n.get(f"{path}/chunks")["items"]
        assert [(c["hash"], c["nodes"]) for c in there] == [(c["hash"], c["nodes"]) for c in chunks]
        held = [h + c["here"] for h, c in zip(held, there)]
    assert min(held) >= 3, held
    page = answered(api, made, {n.name for n in mesh.nodes})
    for c in page["items"]:
        holders = [n.name for n in mesh.nodes
                   if n.get(f"{path}/chunks")["items"][c["index"]]["here"]]
        assert c["held_by"] == holders, (c, holders)
    path = "/v1/assets/" + private["asset"]
    assert api.get(path + "/content") == bytes_
    assert [c["hash"] for c in api.get(path + "/chunks")["items"]] == [c["hash"] for c in chunks]
    assert {c["hash"] for c in api.get(path + "/chunks", token=False)["items"]} == {None}
    api.refused(401, "DENIED", "GET", path + "/content", token=False)
    for what in ("content", "chunks"):
        api.refused(404, "NOTFOUND", "GET", f"/v1/assets/{gone}/{what}")
    api.refused(409, "OP_STATE", "POST", "/v1/assets", {"kind": "cpu", "name": "open"})
    api.refused(409, "OP_STATE", "POST", f"/v1/assets/{gone}/state", {"state": "available"})
    return made


def ledger(api, made):
    op = api.get("/v1/operations/" + made["op"])
    assert (op["height"], op["index"], op["kind"], op["asset"]) == \
        (made["height"], made["index"], "register", made["asset"])
    assert op["payload"]["name"] == "open" and op["owner_name"] == "node-1"
    proofs = api.get(f"/v1/operations/{made['op']}/proofs")["items"]
    assert [p["name"] for p in proofs] == ["space", "stake", "work", "time"]
    for p in proofs:
        assert p["present"] and p["passed"] and len(p["checks"]) >= 2, p
        assert all(c["passed"] for c in p["checks"]), p
    block = api.get(f"/v1/blocks/{made['height']}")
    assert block["ops"][made["index"]] == made["op"] and len(block["ops"]) == block["ops_count"]
    in_block = every_item(api, f"/v1/blocks/{made['height']}/operations", 1)
    assert [o["id"] for o in in_block] == block["ops"]
    assert api.get(f"/v1/blocks/{made['height'] + 1}")["parent"] == block["id"]

    blocks = every_item(api, "/v1/blocks", 7)
    assert [b["height"] for b in blocks] == list(range(len(blocks), 0, -1))
    ops = every_item(api, "/v1/operations", 3)
    places = [(o["height"], o["index"]) for o in ops]
    assert places == sorted(places, reverse=True) and made["op"] in [o["id"] for o in ops]
    counted = sum(b["ops_count"] for b in blocks)
    assert len(set(places)) == len(ops) >= counted > 0, (len(ops), counted)
    assert {o["module"] for o in ops} >= {"asset"}

    raw = api.get(f"/v1/blocks/{made['height']}/raw")
    n = struct.unpack(">I", raw[:4])[0]
    m = struct.unpack(">I", raw[4 + n:8 + n])[0]
    assert len(raw) == 8 + n + m
    genesis = api.get("/v1/genesis")
    assert hashlib.sha256(genesis).hexdigest() == api.get("/v1/status")["chain_id"]
    assert len(api.get("/v1/genesis?format=json")["validators"]) == 4
    lines = [json.loads(x) for x in api.ask("POST", "/v1/ledger/verify").splitlines()]
    for line in lines:
        api.valid(line, "VerifyLine")
    assert lines[-1]["good"] and lines[-1]["blocks"] >= made["height"], lines[-1]


def proofs_limited(api, made):
    """Checking proofs is dear: past a number a second they wait."""
    path = f"/v1/operations/{made['op']}/proofs"
    answers = [api.raw("GET", path) for _ in range(60)]
    for a, data in answers:
        api.check("GET", path, a, data)
    statuses = {a.status for a, _ in answers}
    if statuses == {200}:  # a machine so slow that it never came to that
        return
    assert statuses == {200, 503}, statuses
    assert all(a.getheader("retry-after") == "1" for a, _ in answers if a.status == 503)
    wait_until("proofs are checked again", 120, lambda: api.raw("GET", path)[0].status == 200)


def metrics(api):
    figures = {}
    text = api.get("/metrics").decode()
    answer, _ = api.raw("GET", "/metrics")
    assert answer.getheader("content-type") == \
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    for family in text_string_to_metric_families(text):
        assert family.documentation, family
        for s in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in s.labels.items())
            figures[s.name + (f"{{{labels}}}" if labels else "")] = s.value
    performance = api.get("/metrics/performance")
    assert set(performance) == set(figures), set(performance) ^ set(figures)
    assert figures["hm_node_height"] > 0 and figures["hm_node_peers"] == 3

    def ready():
        answer, data = api.raw("GET", "/readyz")
        return answer.status == 200 and api.check("GET", "/readyz", answer, data)
    assert wait_until("it is ready", 120, ready) == b"ready\n"
    assert api.get("/healthz") == b"ok\n"
    assert api.get("/v1/openapi.yaml").decode() == api.text


class Stream:
    """Server-sent events over a connection of its own."""

    def __init__(self, api):
        self.c = http.client.HTTPSConnection("::1", api.node.port, timeout=120,
                                             context=api.mesh.tls)
        self.c.request("GET", "/v1/events")
        self.answer = self.c.getresponse()
        self.api = api

    def close(self):
        self.answer.close()
        self.c.close()

    def event(self):
        fields = {}
        while True:
            line = self.answer.fp.readline().decode().rstrip("\n")
            if line == "" and "data" in fields:
                break
            if line == "":
                continue
            name, _, value = line.partition(": ")
            fields[name] = value
        e = json.loads(fields["data"])
        self.api.valid(e, "Event")
        assert fields["event"] == e["type"] and int(fields["id"]) == e["seq"]
        return e

    def until(self, condition):
        while True:
            e = self.event()
            if condition(e):
                return e


def events(api, mesh, made):
    s = Stream(api)
    api.check("GET", "/v1/events", s.answer, b"")
    assert s.answer.getheader("content-type") == "text/event-stream"
    final = s.until(lambda e: e["type"] == "final")
    assert final["height"] > 0
    node = mesh.nodes[2]
    id_ = api.get("/v1/nodes/node-3")["id"]
    seq = final["seq"]
    node.kill()
    lost = s.until(lambda e: e["type"] == "peer_down" and e["seq"] > seq and e["peer"] == id_)
    assert "node-3" in lost["text"], lost
    page = answered(api, made, {"node-1", "node-2", "node-4"})
    assert not any("node-3" in c["held_by"] for c in page["items"])
    assert api.get("/v1/nodes/node-3")["state"] != "up"
    # On a busy machine a living leader's view may be given up before.
    skipped = s.until(lambda e: e["type"] == "nullified" and e["seq"] > lost["seq"]
                      and e["peer"] == id_)
    assert skipped["count"] >= 1, skipped
    missed = api.get("/v1/status")["height"]
    node.start()
    back = s.until(lambda e: e["type"] == "peer_up" and e["seq"] > lost["seq"]
                   and e["peer"] == id_)
    s.close()
    # How long a block took that was final while it was away, it does not know; of one that comes
    # when it has caught up it does.
    s = Stream(Api(mesh, node))
    finals = []
    s.until(lambda e: e["type"] == "final" and (finals.append(e) or (
        e["height"] > missed and e["finality_us"] > 0)))
    s.close()
    assert finals[0]["height"] <= missed, (finals[0], missed)
    assert all(e["finality_us"] == 0 for e in finals if e["height"] <= missed), finals
    # What happened is told to those who come later, whatever number of blocks came since.
    height = api.get("/v1/status")["height"]
    while api.get("/v1/status")["height"] < height + 300:
        api.ask("POST", "/v1/assets", {"kind": "cpu", "name": os.urandom(8).hex()}, want=201)
    again = Stream(api)
    told = []
    again.until(lambda e: told.append(e) or e["height"] >= height + 300)
    again.close()
    seqs = [e["seq"] for e in told]
    assert seqs == sorted(set(seqs))
    assert min(e["height"] for e in told if e["type"] == "final") > height
    assert lost in told and back in told

    many = [Stream(api)]
    while many[-1].answer.status == 200:
        many.append(Stream(api))
    # Some of those that ended before may not have been noticed yet.
    assert 250 < len(many) <= 257, len(many)
    api.refused(503, "BUSY", "GET", "/v1/events")
    for m in many:
        m.close()
    wait_until("streams that ended make room", 120, lambda: room(api))


def room(api):
    s = Stream(api)
    good = s.answer.status == 200
    s.close()
    return good


BODIES = (b"", b"{", b"[]", b"null", b"7", b'"x"', b'{"no_such_field":1}', b"{}{}",
          b'{"kind":1,"name":2,"to":3,"state":4,"policy":5}', b"\xff\xfe", b'{"a":"\x00"}',
          b'{"kind":"cpu","kind":"cpu","name":"x","name":"y"}', b"[" * 5000,
          b'{"grants":' + b"[" * 500 + b"]" * 500 + b"}")


def bad_requests(api, made):
    id_ = made["asset"]
    for path, item in api.doc["paths"].items():
        here = re.sub(r"\{id\}", id_, path).replace("{height}", "1").replace("{name}", "api")
        wrong = re.sub(r"\{id\}", "xyz", path).replace("{height}", "xyz")
        absent = re.sub(r"\{id\}", "ab" * 32, path).replace("{height}", "999999999")
        for method in METHODS:
            if method not in item:
                answer, data = api.raw(method.upper(), here, b"" if method != "get" else None)
                api.check(method.upper(), here, answer, data)
                allowed = {m.strip().lower() for m in answer.getheader("allow").split(",")}
                assert answer.status == 405 and allowed == set(item), (method, path, allowed)
        for method, what in item.items():
            up = method.upper()
            body = b"" if method == "post" else None
            if path.startswith("/witness/"):  # test_witness.py has nodes that are witnesses
                api.refused(404, "NOTFOUND", up, here.replace("{origin}", id_), body)
                continue
            if "{" in path and path != "/v1/nodes/{id}" and "{name}" not in path:
                valid = body
                for m in (what.get("requestBody") or {}).get("content", {}):
                    assert m == "application/json"
                    valid = json.dumps({"to": id_} if "transfer" in path else
                                       {"state": "failed"} if "state" in path else
                                       {"policy": "public"}).encode()
                api.refused(400, "PARSE", up, wrong, valid)
                api.refused(404, "NOTFOUND", up, absent, valid)
            if what.get("security"):
                for headers in ({}, {"authorization": "Bearer wrong"},
                                {"authorization": "Basic " + api.mesh.token(api.node)}):
                    answer, data = api.raw(up, here, body, headers, token=False)
                    api.check(up, here, answer, data)
                    assert answer.status == 401, (up, here, answer.status)
                    assert answer.getheader("www-authenticate") == "Bearer"
                api.refused(403, "DENIED", up, here, body, port=5173, plain=True)
            if "application/json" in (what.get("requestBody") or {}).get("content", {}):
                for bad in BODIES:
                    api.ask(up, here, bad, want=(400, 413) if b"[[" in bad else 400)
                api.refused(413, "LIMIT", up, here, b"x" * (256 * 1024 + 1))
            for p in what.get("parameters", ()):
                if p["in"] == "query" and p["name"] in ("limit", "cursor", "kind", "state", "owner"):
                    sep = f"{here}?{p['name']}="
                    for bad in ("x", "-1", "1e3", "99999999999999999999999"):
                        if p["name"] == "cursor" or "limit" == p["name"] or bad == "x":
                            api.ask(up, sep + bad, want=400)
                    if p["name"] == "limit":
                        api.refused(400, "PARSE", up, sep + "0")
                        api.refused(400, "PARSE", up, f"{sep}{p['schema']['maximum'] + 1}")
    for path in ("/nothing", "/v1", "/v1/", "/v1/status/", "/v1/assets/", "/v1/assets/x/y",
                 "/v1/../etc/passwd", "/v1/%2e%2e/etc/passwd"):
        api.refused(404, "NOTFOUND", "GET", path)
    for body in ({"kind": "boat", "name": "x"}, {"kind": "cpu", "name": ""}, {"kind": "cpu"},
                 {"kind": "cpu", "name": "x" * 256}, {"kind": "cpu", "name": "x", "policy": "open"},
                 {"kind": "cpu", "name": "x", "grants": [{"node": "12", "rights": ["read"]}]},
                 {"kind": "data", "name": "x", "content": {"size": -1}}):
        api.ask("POST", "/v1/assets", body, want=(400, 422))
    api.refused(422, "OP_PAYLOAD", "POST", "/v1/assets", {"kind": "data", "name": "no content"})


def lengths(api):
    """A body has a Content-Length; what was announced too long is refused before it comes."""
    def send(head):
        with socket.create_connection(("::1", api.node.port)) as raw:
            with api.mesh.tls.wrap_socket(raw, server_hostname="::1") as c:
                c.settimeout(120)
                c.sendall((head + f"authorization: Bearer {api.mesh.token(api.node)}\r\n"
                           "host: [::1]\r\n\r\n").encode())
                return int(c.recv(4096).split()[1])
    assert send("POST /v1/assets HTTP/1.1\r\n") == 411
    assert send("POST /v1/assets HTTP/1.1\r\ntransfer-encoding: chunked\r\n") == 411
    assert send("POST /v1/assets HTTP/1.1\r\ncontent-length: 99999999\r\n") == 413
    assert send("POST /v1/assets HTTP/1.1\r\ncontent-length: x\r\n") == 400
    assert send(f"POST /v1/content HTTP/1.1\r\ncontent-length: {32768 * 262144 + 1}\r\n") == 413


def page(api):
    """The page's address gives reads to this machine's own names alone."""
    local = dict(port=5173, plain=True, token=False)
    answer, data = api.raw("GET", "/v1/status", headers={"host": "localhost:5173"}, **local)
    assert answer.status == 200, data
    for host in ("attacker.example", "localhost.attacker.example", "[::2]:5173"):
        answer, data = api.raw("GET", "/v1/status", headers={"host": host}, **local)
        assert answer.status == 421, (host, answer.status)
    answer, data = api.raw("GET", "/v1/status", headers={"origin": "http://attacker.example"},
                           **local)
    assert answer.getheader("access-control-allow-origin") is None
    assert answer.getheader("cross-origin-resource-policy") == "same-origin"
    answer, data = api.raw("GET", "/", token=False)  # and the API's address gives the page too
    assert answer.status == 200 and b"<main" in data, data
    assert answer.getheader("content-security-policy").startswith("default-src 'none'")


def limits(mesh):
    """One address neither shuts others out nor asks without end."""
    node = mesh.nodes[1]
    node.signal(15)
    node.argv += [b"--client-rate", b"1", b"--max-connections", b"40"]
    node.start()
    node.wait_ready()
    subprocess.run(["ip", "address", "add", "fd00::1/64", "dev", "lo", "nodad"], check=True)

    def ask(n, source="::1"):
        c = http.client.HTTPSConnection("::1", node.port, timeout=120, context=mesh.tls,
                                        source_address=(source, 0))
        answers = []
        for _ in range(n):
            c.request("GET", "/v1/status")
            answers.append(c.getresponse())
            answers[-1].read()
        c.close()
        return answers
    assert {a.status for a in ask(50)} == {200} # this machine's own
    answers = ask(50, "fd00::1")
    assert {a.status for a in answers} == {200, 429}, {a.status for a in answers}
    assert all(a.getheader("retry-after") == "1" for a in answers if a.status == 429)
    assert [a.status for a in answers[:2]] == [200, 200] # twice the rate at once
    assert node.metric('hm_http_refused_total{reason="rate"}') >= \
        max(20, sum(a.status == 429 for a in answers))
    wait_until("it may ask again", 120, lambda: ask(1, "fd00::1")[0].status == 200)

    crowd = []

    def crowded():
        # First the connections, then TLS: once they have rested they would make room for each other.
        for raw in [socket.create_connection(("::1", node.port), 120, ("fd00::1", 0))
                    for _ in range(80)]:
            try:
                crowd.append(mesh.tls.wrap_socket(raw, server_hostname="::1"))
            except OSError:
                raw.close()
        return node.metric("hm_http_connections_refused_total") > 0
    wait_until("a crowd is refused", 120, crowded)
    assert node.metric("hm_http_connections") <= 40
    assert {a.status for a in ask(3)} == {200} # of another address
    # The crowd's own address gets in again for one that rests.
    def again():
        try:
            return ask(1, "fd00::1")[0].status == 200
        except (OSError, http.client.HTTPException):
            return False
    wait_until("who rests makes room", 120, again)
    assert node.metric("hm_http_connections_displaced_total") > 0
    for c in crowd:
        c.settimeout(120)
        try:
            assert c.recv(1) == b"", "an answer to no request"
        except ConnectionError:
            pass
        c.close()


def names(api, mesh):
    # Each node's key that comes later is a change of the zone.
    zone = wait_until("every node's key is in the zone", 120, lambda: (
        z := api.get("/v1/zone")) and len(z["keys"]) == len(mesh.nodes) and z)
    assert zone["zone"] == "dev.internal", zone
    records = [{"type": "AAAA", "ttl": 30, "data": "2001:db8::1"}, {"type": "TXT", "data": "t"}]
    made = api.ask("POST", "/v1/names", {"name": "api", "records": records, "life_s": 3600,
                                         "policy": "public"})
    name = api.get("/v1/names/api")
    assert name["asset"] == made["asset"] and name["published"] and name["owner_name"] == "node-1"
    assert name["expires_ms"] - name["registered_ms"] == 3600000
    assert [(r["type"], r["ttl"]) for r in name["records"]] == [("TXT", 60), ("AAAA", 30)], name
    assert name == api.get("/v1/names/api.dev.internal") == api.get("/v1/names/api.dev.internal.")
    assert api.get("/v1/zone")["serial"] == made["height"]
    api.ask("POST", "/v1/names/api/records", {"records": []})
    assert api.get("/v1/names/api")["records"] == []
    api.ask("POST", "/v1/names/api/renew", {"life_s": 7200})
    for _ in range(2):
        api.ask("POST", "/v1/names", {"name": f"api-{_}"})
    found = every_item(api, "/v1/names?owner=node-1&q=api", 2)
    assert [n["name"] for n in found] == ["api-1", "api-0", "api"], found
    op = api.get("/v1/operations/" + made["op"])
    assert op["payload"]["records"][1]["data"] == "2001:db8::1", op
    assert "taken" in api.refused(409, "OP_STATE", "POST", "/v1/names", {"name": "api"})
    assert "longer already" in api.refused(409, "OP_STATE", "POST", "/v1/names/api/renew",
                                           {"life_s": 60})
    api.refused(404, "NOTFOUND", "GET", "/v1/names/nobody")
    api.refused(404, "NOTFOUND", "POST", "/v1/names/nobody/renew", {"life_s": 60})
    for body in ({"records": {}}, {"records": [{"type": "AAAA"}]}, {"records": [1]}, {},
                 {"records": [{"type": "AAAA", "data": "1.2.3.4"}]},
                 {"records": [{"type": "A", "data": "1.2.3.4"}]},
                 {"records": [{"type": "NS", "data": "a..b"}]},
                 {"records": [{"type": "AAAA", "data": "::1", "ttl": -1}]},
                 {"records": [{"type": "TXT", "data": "x", "more": 1}]}):
        api.refused(400, "PARSE", "POST", "/v1/names/api/records", body)
    api.refused(413, "LIMIT", "POST", "/v1/names/api/records",
                {"records": [{"type": "TXT", "data": str(i)} for i in range(65)]})
    api.refused(422, "OP_PAYLOAD", "POST", "/v1/names/api/records",
                {"records": [{"type": "DS", "data": "1 13 2 " + "ab" * 32}]})
    for name in ("Api", "-a", "a.nodes", "a b"):
        api.refused(422, "OP_PAYLOAD", "POST", "/v1/names", {"name": name})
    api.refused(401, "DENIED", "POST", "/v1/names", {"name": "x"}, token=False)


def trust(api, mesh):
    """Proposed, withdrawn, proposed by another and approved of; test_trust.py has what comes of it."""
    items = api.get("/v1/trust")["items"]
    assert [i["kind"] for i in items] == ["authority"] and items[0]["first"]
    assert api.get("/v1/trust/" + items[0]["id"])["sha256"] == items[0]["sha256"]
    roots = os.path.join(mesh.dir, "trustchain/authority")
    chain, secret = (os.path.join(mesh.dir, name) for name in ("longer.chain", "passphrase"))
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write("the key has none\n")
    subprocess.run([CLI, "cert", "root", "sign", "--key", roots + "/mesh-root.key", "--days", "3000",
                    "--passphrase-file", secret, roots + "/mesh-ca.csr", "-o", chain], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with open(chain) as f:
        op = api.ask("POST", "/v1/trust", {"certificate": f.read()}, want=201)["op"]
    assert api.get("/v1/trust/" + op)["kind"] == "proposal"
    api.refused(409, "OP_DUPLICATE", "POST", f"/v1/trust/{op}/approve")
    api.ask("POST", f"/v1/trust/{op}/withdraw", want=201)
    api.refused(404, "NOTFOUND", "GET", "/v1/trust/" + op)
    again = json.loads(mesh.cli(mesh.nodes[1], "trust", "propose", chain, "--json"))["op"]
    wait_until("the proposal is there", 120,
               lambda: again in [i["id"] for i in api.get("/v1/trust")["items"]])
    api.ask("POST", f"/v1/trust/{again}/approve", want=201)
    assert api.get("/v1/trust/" + again)["power"] == 200
    api.refused(400, "PARSE", "POST", "/v1/trust", {"certificate": "none"})
    foreign_root(api, mesh, secret)


def foreign_root(api, mesh, secret):
    """Of another organisation, for names of its own; test_federation.py has what comes of it."""
    partner = os.path.join(mesh.dir, "partner")
    subprocess.run([CLI, "cert", "root", "create", "--family", "edge", "--mesh", "partner", "--out",
                    partner, "--passphrase-file", secret], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    with open(partner + "/edge-root.crt") as f:
        root = {"certificate": f.read()}
    for bad in ({"zone": "example"}, {"zone": "a b.example"}, {"prefix": "2001::/16"}):
        api.refused(400, "INVALID", "POST", "/v1/trust", {**root, **bad})
    for bad in ({"zone": "dev.internal"}, {"prefix": "fd48:4d00::/32"}):
        api.refused(409, "OP_STATE", "POST", "/v1/trust", {**root, **bad})
    asked = {**root, "zone": "Partner.Example.", "prefix": "2001:db8:b::/48"}
    op = api.ask("POST", "/v1/trust", asked, want=201)["op"]
    scope = {"zone": "partner.example", "prefix": "2001:db8:b::/48"}
    p = api.get("/v1/trust/" + op)
    assert p["kind"] == "proposal" and scope.items() <= p.items() and "authority" not in p
    api.refused(409, "OP_DUPLICATE", "POST", "/v1/trust", asked)
    api.refused(404, "NOTFOUND", "GET", "/v1/trust/" + p["foreign"])
    for n in mesh.nodes[1:3]:
        wait_until("the proposal is there", 120, lambda n=n: op in mesh.cli(n, "trust", "list"))
        mesh.cli(n, "trust", "approve", op[:12])
    wait_until("it is in force", 120,
               lambda: p["foreign"] in [i["id"] for i in api.get("/v1/trust")["items"]])
    f = api.get("/v1/trust/" + p["foreign"])
    assert f["kind"] == "foreign" and scope.items() <= f.items() and f["name"] == "partner edge root"
    shown = mesh.cli(mesh.nodes[0], "trust", "show", f["id"][:8])
    assert "partner.example 2001:db8:b::/48" in shown, shown
    api.ask("POST", f"/v1/trust/{f['id']}/withdraw", want=201)
    left = [i for i in api.get("/v1/trust")["items"] if i["kind"] == "withdrawal"]
    assert [i["foreign"] for i in left] == [f["id"]]


def not_ready(api, mesh):
    for n in mesh.nodes[2:]:
        n.kill()
    # First it may be catching up, with what they said last.
    wait_until("the node says that it is not ready", 120,
               lambda: b"no quorum" in api.ask("GET", "/readyz", want=(200, 503)))
    assert api.get("/healthz") == b"ok\n" and not api.get("/v1/status")["ready"]


def main():
    isolate()
    with Mesh() as mesh:
        api = Api(mesh, mesh.nodes[0])
        nodes(api, mesh)
        made = assets(api, mesh)
        ledger(api, made)
        proofs_limited(api, made)
        names(api, mesh)
        trust(api, mesh)
        metrics(api)
        bad_requests(api, made)
        lengths(api)
        page(api)
        events(api, mesh, made)
        limits(mesh)
        not_ready(api, mesh)
        want = {(m, p) for p, item in api.doc["paths"].items() for m in item
                if not p.startswith("/witness/")}  # these answer well in test_witness.py
        good = {(m, p) for m, p, status in api.seen if status < 300}
        assert good == want, f"never answered well: {want - good}"
        say(f"{len(want)} routes, {len(api.seen)} kinds of answers, as the definition says")


main()
