#!/usr/bin/env bash
# hypermesh against a stand-in of a node's API that refuses, drops and goes away as a real one may.
# asset import: every file once, whole, with its own content, and an import that was cut off goes
# on. asset get: whole or not at all. ledger verify: the last line decides. $1: hypermesh.
set -euo pipefail
hypermesh=$(realpath "$1")
dir=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"
say() { echo "test: $*"; }
fail() { echo "FAILED: $*" >&2; tail -n 20 import.log node.log >&2 2>/dev/null || true; exit 1; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=stand-in \
    -addext subjectAltName=IP:::1 -keyout server.key -out server.crt 2>openssl.log || fail "openssl req"
export HYPERMESH_CA=$dir/server.crt
cat >node.py <<'PY'
import hashlib, http.server, json, os, random, socket, ssl, sys, threading, urllib.parse

CHUNK, OWNER = 1000, "ab" * 32
STATE = "ledger.json"
mode = sys.argv[1]
lock = threading.Lock()
assets = json.load(open(STATE)) if os.path.exists(STATE) else {}
rng = random.Random(7)
peak = [0, 0]

def h(x): return hashlib.sha256(x).digest()

def root(data):
    leaves = [h(b"\0" + h(data[i:i + CHUNK])) for i in range(0, len(data), CHUNK)]
    def tree(l): # RFC 9162, 2.1.1
        if len(l) < 2: return l[0] if l else h(b"")
        k = 1
        while 2 * k < len(l): k *= 2
        return h(b"\1" + tree(l[:k]) + tree(l[k:]))
    return tree(leaves).hex()

class Node(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def say(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def refuse(self, status, word):
        self.say(status, {"error": {"code": word, "message": word, "detail": "for programs" if status == 401 else ""}})
    def do_GET(self):
        if mode == "hollow": return self.say(200, json.load(open("hollow.json")))
        u = urllib.parse.urlparse(self.path)
        q = urllib.parse.parse_qs(u.query)
        if u.path.endswith("/content"):
            cut = "/cc" in u.path
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * (500 if cut else 1000))
            self.close_connection = True
            return
        if u.path.startswith("/v1/assets/"): # its content is said to be this
            said = b"x" * 999 + (b"y" if "/bb" in u.path else b"x")
            return self.say(200, {"id": "aa" * 32, "content": {"size": 1000, "chunk_bytes": CHUNK, "chunks": 1,
                                              "root": root(said)}})
        if u.path == "/v1/nodes":
            return self.say(404, {"error": {"code": "NOTFOUND", "message": "there is nothing under this address",
                                            "detail": u.path}})
        if u.path == "/v1/status": return self.say(200, {"id": OWNER})
        with lock: a = assets.get(q["name"][0])
        assert q["owner"] == [OWNER]
        self.say(200, {"items": [a] if a else [], "next": None})
    def verify(self):
        lines = [{"done": 1, "total": 2}, {"done": 2, "total": 2}]
        if os.path.exists("bad"): lines[1] = {"good": False, "error": "CORRUPT", "detail": "block 2"}
        elif not os.path.exists("cut"): lines.append({"good": True, "blocks": 2, "ops": 5, "state_root": "aa"})
        body = "".join(json.dumps(l) + "\n" for l in lines).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("authorization") != "Bearer secret": return self.refuse(401, "DENIED")
        if mode == "hollow": return self.say(200, json.load(open("hollow.json")))
        if self.path == "/v1/ledger/verify": return self.verify()
        with lock:
            dice = rng.random() if mode == "moody" else 1
            peak[0] += 1
            peak[1] = max(peak)
        try:
            if dice < 0.15: return self.refuse(503, "BUSY")
            if dice < 0.25:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.post(data, dice)
        finally:
            with lock: peak[0] -= 1
    def post(self, data, dice):
        if self.path == "/v1/content":
            return self.say(201, {"size": len(data), "chunk_bytes": CHUNK,
                                  "chunks": -(-len(data) // CHUNK), "root": root(data)})
        a = json.loads(data)
        a.setdefault("policy", "private")
        assert a["kind"] == "data" and set(a["content"]) == {"size", "chunk_bytes", "chunks", "root"}
        with lock:
            if a["name"] in assets: return self.refuse(409, "EXISTS")
            assets[a["name"]] = dict(a, id=h(a["name"].encode()).hex())
            json.dump(assets, open(STATE + ".new", "w"))
            os.rename(STATE + ".new", STATE)
        if dice < 0.4: # registered, and the answer is lost
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.say(201, {"op": "00", "asset": "00", "height": 1, "index": 0, "finality_us": 1})

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
def serve(port): # 0: one below those that the kernel gives to others while this is stopped
    while True:
        try: return Server(("::1", port or random.randrange(10000, 32000)), Node)
        except OSError:
            if port: raise
s = serve(int(sys.argv[2]))
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("server.crt", "server.key")
s.socket = tls.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
print(s.server_address[1], flush=True)
try:
    s.serve_forever()
finally:
    print("peak", peak[1], flush=True)
PY
start() { # MODE PORT
    rm -f node.out
    python3 node.py "$1" "$2" >node.out 2>>node.log &
    pid=$!
    until [ -s node.out ]; do
        kill -0 $pid || fail "the stand-in does not start"
        sleep 0.05
    done
    port=$(head -1 node.out)
}
stop() { kill -9 $pid; wait $pid 2>/dev/null || true; pid=; }
import() {
    "$hypermesh" asset import files --node "https://[::1]:$port" --token-file token --json "$@" \
        >answer 2>import.log
}
figure() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }

echo secret >token
mkdir -p files/deep/er "files/with space"
for i in $(seq 120); do head -c $((i * 37)) /dev/urandom >files/deep/f$i; done
: >files/empty
head -c 1000 /dev/urandom >files/deep/er/exact
head -c 3000000 /dev/urandom >"files/with space/größe & more"
ln -s ../token files/link
mkfifo files/pipe

say "a moody node: every file once"
start moody 0
import --jobs 8 || fail "import"
[ "$(figure imported)$(figure failed)$(figure not_regular)" = 12302 ] || { cat answer; fail "figures"; }
python3 - <<'PY'
import hashlib, json, os
a = json.load(open("ledger.json"))
want = {os.path.relpath(os.path.join(d, f), "files") for d, _, fs in os.walk("files") for f in fs}
want -= {"link", "pipe"}
assert set(a) == want, set(a) ^ want
for n in want:
    assert a[n]["content"]["size"] == os.path.getsize("files/" + n), n
PY

say "HTTPS alone is spoken: nothing goes out in clear text"
for option in node authority; do
    rc=0
    "$hypermesh" cert list --$option "http://[::1]:$port" --token-file token >answer 2>import.log || rc=$?
    [ $rc = 2 ] && grep -q 'https://' import.log || fail "--$option http: exit code $rc"
done

say "a second import does nothing"
import || fail "second import"
[ "$(figure imported) $(figure there_already)" = "0 123" ] || { cat answer; fail "figures"; }
[ "$(figure other_policy)" = 0 ] || { cat answer; fail "a policy that nobody asked for"; }
import --policy private || fail "the same policy"
[ "$(figure there_already) $(figure other_policy)" = "123 0" ] || { cat answer; fail "the same policy"; }

say "what keeps another policy is told"
import --policy public || fail "another policy"
[ "$(figure there_already) $(figure other_policy)" = "123 123" ] || { cat answer; fail "another policy"; }
"$hypermesh" asset import files --node "https://[::1]:$port" --token-file token --policy public 2>import.log |
    grep -q '^policy  *123 .*set-policy' || fail "another policy in words"

say "a changed file of the same size is told"
cp files/deep/f100 kept
tr '\000-\177' '\200-\377' <kept | head -c 3700 >x
printf 'changed' | dd of=files/deep/f100 conv=notrunc status=none
rc=0
import || rc=$?
[ $rc = 1 ] && grep -q 'deep/f100.*another content' import.log || fail "a changed file (exit $rc)"
cp kept files/deep/f100

say "the node is away for a while, and the import is killed and begun again"
stop
rm ledger.json
start moody "$port"
import --jobs 32 & busy=$!
until [ -s ledger.json ]; do sleep 0.02; done
stop
start moody "$port"
wait $busy || fail "the node was away"
[ "$(figure imported)" -ge 1 ] && [ "$(figure failed)" = 0 ] || { cat answer; fail "figures"; }
stop
rm ledger.json
start steady "$port"
import --jobs 1 & busy=$!
until [ -s ledger.json ]; do sleep 0.02; done
kill -9 $(pgrep -P $busy || echo $busy) 2>/dev/null || true
wait $busy 2>/dev/null || true
import || fail "the import begun again"
[ "$(($(figure imported) + $(figure there_already)))" = 123 ] || { cat answer; fail "figures"; }
[ "$(figure there_already)" -ge 1 ] || fail "it began at the start"

say "a file that says nothing of its length is not taken for an empty one"
hm() { "$hypermesh" "$@" --node "https://[::1]:$port" --token-file token; }
rc=0
hm asset register --kind data --name proc --file /proc/self/status 2>import.log || rc=$?
[ $rc = 1 ] && grep -q 'holds more than the 0 bytes' import.log || fail "a file of /proc: exit code $rc"

say "asset get: whole or not at all"
hm asset get $(printf 'aa%.0s' {1..32}) -o got
[ "$(wc -c <got)" = 1000 ] || fail "asset get"
rc=0
hm asset get $(printf 'bb%.0s' {1..32}) -o other 2>import.log || rc=$?
[ $rc = 1 ] && grep -q 'not what the ledger names' import.log ||
    fail "a content that the ledger does not name: exit code $rc"
[ "$(hm asset get $(printf 'aa%.0s' {1..32}) -o - | wc -c)" = 1000 ] || fail "asset get -o -"
rc=0
hm asset get $(printf 'cc%.0s' {1..32}) -o half 2>import.log || rc=$?
[ $rc = 3 ] || fail "a content that was cut: exit code $rc"
[ ! -e half ] && [ ! -e half.part ] || fail "half a content is left"

say "ledger verify"
hm ledger verify --by-node -j >answer 2>import.log || fail "verify"
grep -q '"good": true' answer && grep -q 'block 2 of 2' import.log || fail "verify's words"
touch bad
rc=0
hm ledger verify --by-node >answer 2>import.log || rc=$?
[ $rc = 1 ] && grep -q 'block 2' import.log || fail "a bad ledger: exit code $rc"
rm bad
touch cut
rc=0
hm ledger verify --by-node >answer 2>import.log || rc=$?
[ $rc = 1 ] || fail "a walk that was cut: exit code $rc"

say "an answer that lacks what it must have is not believed"
stop
start hollow 0
id=$(printf 'aa%.0s' {1..32})
serial=$(printf 'aa%.0s' {1..16})
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -subj /CN=x \
    -out csr 2>/dev/null
lacks() { # COMMAND...
    local rc=0 at=(--authority "https://[::1]:$port")
    [ "$1" = cert ] || at=()
    hm "$@" "${at[@]}" >out 2>err || rc=$?
    [ $rc = 1 ] && grep -q "answer lacks" err && [ ! -s out ] || { cat out err; fail "$*: exit code $rc"; }
    rc=0
    hm "$@" "${at[@]}" --json >out 2>err || rc=$?
    [ $rc = 1 ] && python3 -c 'import json; assert json.load(open("out"))["error"]["code"] == "PARSE"' ||
        { cat out err; fail "$* --json: exit code $rc"; }
}
all() {
    lacks status
    lacks node list
    lacks node show node-1
    lacks asset list
    lacks asset show $id
    lacks asset show name
    lacks asset history $id
    lacks asset get $id -o got
    lacks asset register --kind gpu --name x
    lacks asset register --kind data --name x --file token
    lacks asset import files
    lacks asset transfer $id --to node-1
    lacks asset set-state $id --state available
    lacks asset set-policy $id --policy public
    lacks asset retire $id
    lacks proof show $id
    lacks proof show 1/0
    lacks ledger list
    lacks ledger ops
    lacks ledger block 1
    lacks ledger op $id
    lacks ledger verify --by-node
    lacks cert list
    lacks cert show $serial
    lacks cert issue csr -o crt
    lacks cert revoke $serial
}
echo '{}' >hollow.json
all
echo '{"items": [{}], "ops": 1, "id": 7, "asset": null, "content": [], "good": 0, "next": null}' >hollow.json
all

say "a beginning that is too short is told so"
echo '{"items": [], "next": null}' >hollow.json
for command in "asset show c2" "node show c2"; do
    rc=0
    hm $command 2>err || rc=$?
    [ $rc = 5 ] && grep -q 'needs 4 digits' err || { cat err; fail "$command: exit code $rc"; }
done

say "a table's heads are whole"
hm asset history $id >out
grep -q ' STATE AND OWNER AFTER IT$' out || { cat out; fail "a cut head"; }

say "an output that cannot be written is told, however long it is"
python3 - <<'PY'
import json
x = {"id": "a", "name": "a", "kind": "a", "state": "a", "policy": "a", "owner": "a", "owner_name": "a",
     "content": None, "height": 1, "index": 0, "time_ms": 1, "ops_count": 1, "proposer_name": "a", "module": "a"}
json.dump({"items": [x] * 1000, "next": None}, open("hollow.json", "w"))
PY
for command in "asset list" "ledger list" "ledger ops"; do for json in "" --json; do
    rc=0
    hm $command $json >/dev/full 2>err || rc=$?
    [ $rc = 1 ] && grep -q 'cannot be written' err || fail "$command $json to a full disk: exit code $rc"
done; done
stop
start steady 0

say "exit codes"
stop
rc=0
import --patience 0 || rc=$?
[ $rc = 3 ] || fail "no node: exit code $rc"
rm ledger.json
start steady "$port"
echo wrong >token
rc=0
import || rc=$?
[ $rc = 6 ] && ! grep -q 'for programs' import.log || fail "a wrong token: exit code $rc"
rc=0
"$hypermesh" asset import files --node "https://[::1]:$port" >answer 2>import.log || rc=$?
[ $rc = 6 ] && grep -q 'token-file' import.log || fail "no token: exit code $rc"

say "another server, another path, another root"
rc=0
hm node list 2>import.log || rc=$?
[ $rc = 5 ] && grep -q 'nothing under this address: /v1/nodes; --node' import.log ||
    fail "a server of another kind: exit code $rc"
"$hypermesh" asset import files/deep/er --node "https://[::1]:$port/" 2>import.log || rc=$?
[ $rc = 6 ] || fail "a slash at the end: exit code $rc"
for more in /v1 '/?x' '#x'; do
    rc=0
    "$hypermesh" node list --node "https://[::1]:$port$more" 2>import.log || rc=$?
    [ $rc = 2 ] && grep -q 'nothing follows the port' import.log || fail "--node with $more: exit code $rc"
done
rc=0
hm node list --ca nowhere 2>import.log || rc=$?
[ $rc = 1 ] && grep -q 'nowhere cannot be read: No such file' import.log || fail "no root: exit code $rc"
rc=0
hm node list --ca token 2>import.log || rc=$?
[ $rc = 2 ] && grep -q 'token holds no root certificate in PEM' import.log || fail "no PEM: exit code $rc"
rc=0
"$hypermesh" asset import nowhere --node "https://[::1]:$port" 2>import.log || rc=$?
[ $rc = 1 ] || fail "no folder: exit code $rc"
missing() { # WORDS COMMAND...: a file that is missing is one mistake, whatever it was for
    local rc=0 says=$1
    shift
    "$hypermesh" "$@" --node "https://[::1]:$port" >answer 2>import.log || rc=$?
    [ $rc = 1 ] && grep -q "$says" import.log || { cat import.log; fail "$*: exit code $rc"; }
}
missing gone asset register --kind data --name x --file gone --token-file token
missing gone asset import gone --token-file token
missing gone asset register --kind gpu --name x --token-file gone
missing gone node list --ca gone
missing gone ledger verify --genesis gone
missing gone cert verify gone --root server.crt
missing gone cert verify server.crt --root gone
missing gone cert issue gone -o crt --token-file token
cat server.crt server.crt >chain.crt
missing gone cert verify chain.crt --root server.crt --crl gone
for command in "ledger block abc" "ledger block 1x" "ledger op nope" "cert revoke nope"; do
    rc=0
    "$hypermesh" $command 2>import.log || rc=$?
    [ $rc = 2 ] || { cat import.log; fail "$command: exit code $rc"; }
done
rc=0
"$hypermesh" asset import 2>import.log || rc=$?
[ $rc = 2 ] || fail "no argument: exit code $rc"
say "set-state offers what it can do"
rc=0
"$hypermesh" asset set-state x --state retired 2>import.log || rc=$?
[ $rc = 2 ] && [ "$(grep -o retired import.log | wc -l)" = 1 ] || { cat import.log; fail "set-state retired: $rc"; }
say "passed"
