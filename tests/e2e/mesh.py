# What the end-to-end tests share: a mesh of its own for each, started as a person starts it, in a
# network of its own, and a plain HTTPS client for its API.
import http.client, json, os, shutil, signal, ssl, subprocess, sys, tempfile, threading, time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
BIN = os.path.join(ROOT, os.environ.get("HM_BUILD", "build-release"), "src")
CLI = os.path.join(BIN, "cli/hypermesh")


def isolate():
    """Goes on in new network, process and mount namespaces: nothing that a test starts can be
    reached from outside or outlives it, and no port is taken."""
    if os.environ.get("HM_E2E_ISOLATED") != "1":
        user = [] if os.geteuid() == 0 else ["-r"]
        os.environ["HM_E2E_ISOLATED"] = "1"
        os.execvp("unshare", ["unshare", *user, "-n", "-p", "-f", "-m", "--mount-proc",
                              "--kill-child", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def say(text):
    print("test: " + text, flush=True)


def wait_until(what, seconds, condition):
    """Polls until the condition gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end # and looked at once more then, whatever this process waited for
        value = condition()
        if value:
            return value
        if late:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def runs(pid):
    """Until its last thread has ended: the first may be gone while another holds the files yet."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return fields[0] != "Z" or int(fields[17]) > 1


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]!r}")
        self.status = status


KEPT_S = 10 # a server closes a connection that rests for 30 s


class Node:
    """One node: its process, its API over a kept connection."""

    def __init__(self, mesh, number):
        self.mesh, self.number = mesh, number
        self.name = f"node-{number}"
        self.dir = os.path.join(mesh.dir, self.name)
        self.port = 8443 + number
        self.url = f"https://[::1]:{self.port}"
        self.argv = None
        self.conn, self.used = None, 0 # and when it was used last

    # ---- process
    @property
    def pid(self):
        with open(self.dir + ".pid") as f:
            return int(f.read())

    def alive(self):
        return runs(self.pid)

    def signal(self, sig):
        """Ends it; it can be started again just as it was."""
        with open(f"/proc/{self.pid}/cmdline", "rb") as f:
            self.argv = f.read().split(b"\0")[:-1]
        os.kill(self.pid, sig)
        wait_until(f"{self.name} is gone", 120, lambda: not self.alive())

    def kill(self):
        self.signal(signal.SIGKILL)

    def start(self):
        with open(self.dir + ".log", "ab") as log:
            p = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True)
        self.mesh.children.append(p)
        with open(self.dir + ".pid", "w") as f:
            f.write(f"{p.pid}\n")

    def wait_ready(self, seconds=180):
        def ready():
            assert self.alive(), f"{self.name} ended"
            return (self.status() or {}).get("ready")
        wait_until(f"{self.name} is ready", seconds, ready)

    def log(self):
        with open(self.dir + ".log", errors="replace") as f:
            return f.read()

    # ---- API
    def request(self, method, path, body=None, raw=False, timeout=120):
        headers = {"authorization": "Bearer " + self.mesh.token(self)}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if self.conn and method != "GET" and time.monotonic() - self.used > KEPT_S:
            self.conn.close() # what is not asked twice does not go where nobody may listen any more
            self.conn = None
        for again in (True, False):
            fresh = self.conn is None
            if fresh:
                self.conn = http.client.HTTPSConnection("::1", self.port, context=self.mesh.tls)
            self.conn.timeout = timeout
            if self.conn.sock:
                self.conn.sock.settimeout(timeout)
            try:
                self.conn.request(method, path, body, headers)
                answer = self.conn.getresponse()
                data = answer.read()
                self.used = time.monotonic()
                break
            except (OSError, http.client.HTTPException):
                self.conn.close()
                self.conn = None
                if fresh or not again or method != "GET":
                    raise
        if answer.status >= 300:
            raise Refused(answer.status, data)
        return data if raw else json.loads(data)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def status(self):
        """The status, or None while it does not answer."""
        try:
            return self.get("/v1/status", timeout=30)
        except (OSError, http.client.HTTPException):
            return None

    def height(self):
        s = self.status()
        return s["height"] if s else -1

    def metric(self, name):
        for line in self.get("/metrics", raw=True).decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError(f"{self.name} has no metric {name}")

    def assets(self):
        """All assets, by name."""
        found, cursor = {}, ""
        while True:
            page = self.get("/v1/assets?limit=500" + cursor)
            found.update((a["name"], a) for a in page["items"])
            if not page["next"]:
                return found
            cursor = "&cursor=" + page["next"]


class Mesh:
    def __init__(self, nodes=4):
        self.dir = tempfile.mkdtemp(prefix="hm-e2e-")
        self.count = nodes
        self.children = []
        self.tokens = {}
        self.nodes = [Node(self, i + 1) for i in range(nodes)]

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        if kind and kind is not SystemExit:
            for n in self.nodes:
                try:
                    tail = n.log().splitlines()[-80:]
                except OSError:
                    continue
                print(f"---- {n.name}", *tail, sep="\n", file=sys.stderr)
        # Processes end with the process namespace.
        shutil.rmtree(self.dir, ignore_errors=True)

    def up(self):
        p = subprocess.run([os.path.join(ROOT, "deploy-dev.sh"), "--no-build", "--dir", self.dir,
                            "--nodes", str(self.count)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode != 0:
            raise AssertionError("deploy-dev.sh: " + p.stdout)
        self.ca = os.path.join(self.dir, "trustchain/edge-root.crt")
        self.tls = ssl.create_default_context(cafile=self.ca)
        # A quorum is enough for the script.
        wait_until("all nodes are connected", 180, lambda: all(
            (s := n.status()) and s["ready"] and s["peers_connected"] == self.count - 1
            for n in self.nodes))

    def token(self, node):
        if node not in self.tokens:
            with open(os.path.join(node.dir, "api.token")) as f:
                self.tokens[node] = f.read().strip()
        return self.tokens[node]

    def env(self, node):
        return dict(os.environ, HYPERMESH_NODE=node.url, HYPERMESH_CA=self.ca,
                    HYPERMESH_TOKEN_FILE=os.path.join(node.dir, "api.token"))

    def cli_begin(self, node, *args):
        return subprocess.Popen([CLI, *args], env=self.env(node), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def cli(self, node, *args):
        p = self.cli_begin(node, *args)
        out, err = p.communicate()
        if p.returncode != 0:
            raise AssertionError(f"hypermesh {' '.join(args)}: exit {p.returncode}\n{out}{err}")
        return out

    def agree(self, seconds=180):
        """Waits until all nodes have had the same height, which may be at different moments; their
        roots at it must be equal."""
        seen = [{} for _ in self.nodes] # root by height

        def same():
            for n, roots in zip(self.nodes, seen):
                s = n.status()
                if s:
                    roots[s["height"]] = s["state_root"]
            return max(set(seen[0]).intersection(*seen), default=None)
        height = wait_until("all nodes at one height", seconds, same)
        roots = {r[height] for r in seen}
        assert len(roots) == 1, f"state roots differ at height {height}: {roots}"
        return height, roots.pop()


class Traffic(threading.Thread):
    """Registers assets one after another, by a connection of its own."""

    def __init__(self, mesh, node):
        super().__init__(daemon=True)
        self.mesh, self.node, self.done, self.trouble, self.stop = mesh, node, 0, None, False

    def run(self):
        while not self.stop and not self.trouble:
            try:
                self.mesh.cli(self.node, "asset", "register", "--kind", "service", "--name",
                              f"meanwhile-{self.done}")
                self.done += 1
            except AssertionError as e:
                self.trouble = str(e)

    def more(self, n=3):
        want = self.done + n
        wait_until("operations become final", 120, lambda: self.done >= want or self.trouble)
        assert not self.trouble, self.trouble
