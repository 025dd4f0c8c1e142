#!/usr/bin/env python3
"""Programs of others before a node's DNS, as they stand on people's machines: dnsdist, which asks
by TLS and by plain UDP for whoever asks it; systemd-resolved, over both, which checks the
signatures, asked over D-Bus and as a stub by dig. Each must see what is registered after its start,
and find the node again that was killed; and by way of the node each has names of another zone,
which Knot DNS has. (Debian's dnsdist has no QUIC, so it is Knot that the node asks.)"""
import glob, os, re, socket, subprocess
from concurrent.futures import ThreadPoolExecutor

from mesh import Mesh, ROOT, isolate, say, wait_until
from names import ZONE, anchors, dig, knot, local_port, quic_port, run, start, with_upstream

FILES = os.path.join(ROOT, "deps/systemd-resolved") # deploy/setup.sh: unpacked, never installed


def register(node, name, *records):
    node.request("POST", "/v1/names", {"name": name, "records": [
        {"type": kind, "data": data} for kind, data in records]})
    kind, data = records[0]
    wait_until(f"the node answers for {name}", 120,
               lambda: data in dig(node, "+tcp", f"{name}.{ZONE}", kind, "+short"))


def killed(node):
    node.kill()
    node.start()
    node.wait_ready()


# ---- dnsdist ------------------------------------------------------------------------------------

def dnsdist(mesh, name, port, server):
    """One with the node as its server: plain at that port, by TLS at the next."""
    conf = os.path.join(mesh.dir, name + ".conf")
    with open(conf, "w") as f:
        f.write(f"""setLocal("[::1]:{port}")
addTLSLocal("[::1]:{port + 1}", "{mesh.dir}/node-1/edge.crt", "{mesh.dir}/node-1/edge.key")
setSecurityPollSuffix("")
setServFailWhenNoServer(true)
setUDPTimeout(20)
newServer({{checkName="{ZONE}.", checkType="SOA", mustResolve=true, maxCheckFailures=2,
           checkInterval=1, checkTimeout=20000, {server}}})
""")
    log = os.path.join(mesh.dir, name + ".log")
    process = start(mesh, "dnsdist", "--supervised", "--disable-syslog", "-C", conf, log=log)

    def ask(*args):
        return subprocess.run(["dig", "@::1", "-p", str(port), "+tries=1", "+time=20", *args],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300).stdout

    def said():
        assert process.poll() is None, "dnsdist ended"
        with open(log) as f:
            return f.read()
    return ask, said


def by_tls(mesh, name):
    return (f'address="[::1]:{quic_port(mesh.nodes[0])}", tls="openssl", subjectName="{name}", '
            f'caStore="{mesh.ca}", validateCertificates=true, maxInFlight=64')


def before_a_node(mesh, name, port, server):
    node = mesh.nodes[0]
    ask, _ = dnsdist(mesh, name, port, server)
    www = "www." + ZONE
    wait_until("dnsdist answers", 120, lambda: "2001:db8::80" in ask(www, "AAAA", "+short"))
    assert '"first"' in ask("+tcp", www, "TXT", "+short")
    assert "2001:db8::80" in run("kdig", "@::1", "-p", str(port + 1), "+tls-ca=" + mesh.ca,
                                 "+tls-hostname=localhost", "+noidn", www, "AAAA", "+short")
    out = ask("nope." + ZONE, "AAAA")
    assert "status: NXDOMAIN" in out and "\tSOA\t" in out, out
    out = ask("big." + ZONE, "TXT")
    assert out.count('"part') == 20 and "TCP" in out, out
    delv, _ = anchors(mesh, node)
    for how in ("+tcp", "+notcp"):
        for question, wants in (((www, "AAAA"), "; fully validated"),
                                (("nope." + ZONE, "AAAA"), "negative response, fully validated")):
            out = run("delv", "@::1", "-p", str(port), "-a", delv, "+root=" + ZONE, how, *question)
            assert wants in out, out
    later = f"later-{name}"
    register(node, later, ("AAAA", "2001:db8::5"))
    assert "2001:db8::5" in ask(f"{later}.{ZONE}", "AAAA", "+short")

    # Eight who ask at once, by way of few connections: each gets the answers to its own questions,
    # at a port of its own, as digs that draw the same one by chance take answers from each other.
    def many(part):
        path = os.path.join(mesh.dir, f"many-{part}")
        with open(path, "w") as f:
            f.writelines(f"n{part}-{i}.{ZONE} AAAA\n{www} AAAA\n" for i in range(100))
        return ask("-b", f"::1#{6000 + part}", "-f", path, "+noall", "+comments", "+question")
    with ThreadPoolExecutor(8) as pool:
        for part, out in enumerate(pool.map(many, range(8))):
            asked = re.findall(r"status: (\w+).*?;(\S+)\.\t", out, re.S)
            wants = [x for i in range(100) for x in (("NXDOMAIN", f"n{part}-{i}.{ZONE}"),
                                                     ("NOERROR", www))]
            wrong = [x for x in zip(asked, wants) if x[0] != x[1]]
            assert len(asked) == len(wants) and not wrong, (part, len(asked), wrong[:9])

    killed(node)
    wait_until("dnsdist finds the node again", 120,
               lambda: "2001:db8::80" in ask(www, "AAAA", "+short"))


def with_dnsdist(mesh):
    before_a_node(mesh, "dnsdist-tls", 7053, by_tls(mesh, "localhost"))
    before_a_node(mesh, "dnsdist-udp", 7153, f'address="[::1]:{local_port(mesh.nodes[0])}"')
    ask, said = dnsdist(mesh, "dnsdist-other", 7253, by_tls(mesh, "ns.example.net"))
    wait_until("a node that is not whom dnsdist asks for is not asked", 120,
               lambda: re.search(r"as 'down'|as down", said()))
    assert "status: SERVFAIL" in ask("www." + ZONE, "AAAA")


# ---- systemd-resolved ---------------------------------------------------------------------------

def program(name):
    found = glob.glob(f"{FILES}/**/bin/{name}", recursive=True)
    found += glob.glob(f"{FILES}/**/systemd/{name}", recursive=True)
    assert found, f"{name} is missing: deploy/setup.sh e2e"
    return found[0]


class Machine:
    """This test's own namespaces as a machine that has systemd-resolved: a system bus, an interface
    that leads somewhere, without which it asks nobody, and its user."""

    def __init__(self, mesh):
        self.mesh, self.process, self.number = mesh, None, 0
        for args in (("ip", "link", "add", "out", "type", "veth", "peer", "name", "in"),
                     ("ip", "addr", "add", "2001:db8:1::1/64", "dev", "out", "nodad"),
                     ("ip", "link", "set", "out", "up"), ("ip", "link", "set", "in", "up"),
                     ("mount", "-t", "tmpfs", "run", "/run"),
                     ("mount", "-t", "tmpfs", "etc", "/etc/systemd")):
            run(*args)
        os.mkdir("/run/systemd")
        for path, line in (("/etc/passwd", "systemd-resolve:x:0:0::/:/usr/sbin/nologin\n"),
                           ("/etc/group", "systemd-resolve:x:0:\n")):
            ours = os.path.join(mesh.dir, os.path.basename(path))
            with open(path) as f, open(ours, "w") as g:
                g.write(line + f.read())
            run("mount", "--bind", ours, path)
        bus = os.path.join(mesh.dir, "bus")
        with open(bus + ".conf", "w") as f:
            f.write(f"""<busconfig><listen>unix:path={bus}</listen>
<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
""")
        start(mesh, "dbus-daemon", "--nofork", "--config-file=" + bus + ".conf", log=bus + ".log")

        def listens():
            with socket.socket(socket.AF_UNIX) as s:
                return s.connect_ex(bus) == 0
        wait_until("the bus is there", 120, listens)
        libraries = {os.path.dirname(p) for p in
                     glob.glob(f"{FILES}/**/libsystemd-shared-*.so", recursive=True)}
        self.env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS="unix:path=" + bus,
                        LD_LIBRARY_PATH=":".join(libraries), SSL_CERT_FILE=mesh.ca)

    def trust(self, zone, records):
        os.makedirs("/run/dnssec-trust-anchors.d", exist_ok=True)
        with open(f"/run/dnssec-trust-anchors.d/{zone}.positive", "w") as f:
            f.write(records)

    def begin(self, server, tls, dnssec, domain=ZONE):
        with open("/etc/systemd/resolved.conf", "w") as f:
            f.write(f"""[Resolve]
DNS={server}
FallbackDNS=
Domains=~{domain}
DNSOverTLS={tls}
DNSSEC={dnssec}
LLMNR=no
MulticastDNS=no
DNSStubListener=no
DNSStubListenerExtra=[::1]:7953
""")
        if self.process:
            self.process.terminate()
            self.process.wait()
        self.number += 1
        self.process = start(self.mesh, program("systemd-resolved"), env=self.env,
                             log=os.path.join(self.mesh.dir, f"resolved-{self.number}.log"))
        wait_until("systemd-resolved is on the bus", 120, lambda: self.control("status")[0] == 0)

    def control(self, *args):
        assert self.process.poll() is None, "systemd-resolved ended"
        p = subprocess.run([program("resolvectl"), "--no-pager", *args], env=self.env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        return p.returncode, p.stdout

    def query(self, *args):
        code, out = self.control("query", *args)
        assert code == 0, (args, out)
        return out


def asked(machine, node, encrypted, checked):
    www = "www." + ZONE
    out = machine.query(www)
    assert "2001:db8::80" in out, out
    assert f"authenticated: {'yes' if checked else 'no'}" in out, out
    assert f"encrypted transport: {'yes' if encrypted else 'no'}" in out, out
    assert 'TXT "first"' in machine.query("-t", "TXT", www)
    out = machine.query("-t", "TXT", "big." + ZONE)
    assert out.count('"part') == 20, out
    assert "::1" in machine.query(f"node-1.nodes.{ZONE}")
    for args, no_such in ((("nope." + ZONE,), True), (("a.b.nope." + ZONE,), True),
                          (("-4", www), False)):
        code, out = machine.control("query", *args)
        # A name that is not there is told from one without such records by the type NXNAME (RFC
        # 9824) when signatures are asked for, which versions before that RFC do not know.
        found = "not found" in out or (checked and no_such and "does not have any RR" in out)
        assert code != 0 and (found if no_such else "does not have any RR" in out), (args, out)
    out = run("dig", "@::1", "-p", "7953", www, "AAAA", "+dnssec")
    flags = re.search(r"flags:([^;]*);", out)[1].split()
    assert "2001:db8::80" in out and "status: NOERROR" in out and ("ad" in flags) == checked, out
    later = f"later-{machine.number}"
    register(node, later, ("AAAA", "2001:db8::6"))
    assert "2001:db8::6" in machine.query(f"{later}.{ZONE}")
    killed(node)
    machine.control("flush-caches")
    assert "2001:db8::80" in machine.query(www)


def with_resolved(mesh):
    node = mesh.nodes[0]
    machine = Machine(mesh)
    plain, tls = "[::1]:" + local_port(node), "[::1]:" + quic_port(node)
    say("systemd-resolved by UDP: " + run(program("resolvectl"), "--version",
                                          env=machine.env).split("\n")[0])
    machine.begin(plain, "no", "no")
    asked(machine, node, encrypted=False, checked=False)
    say("and by TLS")
    machine.begin(tls + "#localhost", "yes", "no")
    asked(machine, node, encrypted=True, checked=False)
    say("and the signatures are checked")
    with open(anchors(mesh, node)[1]) as f:
        machine.trust(ZONE, f.read())
    machine.begin(plain, "no", "yes")
    asked(machine, node, encrypted=False, checked=True)
    machine.begin(tls + "#localhost", "yes", "yes")
    asked(machine, node, encrypted=True, checked=True)
    say("a server of another name is not believed")
    machine.begin(tls + "#ns.example.net", "yes", "no")
    code, out = machine.control("query", "www." + ZONE)
    assert code != 0 and "2001:db8" not in out, out
    return machine


# ---- names of others, by way of the node ---------------------------------------------------------

def forwarded(mesh, machine):
    node = mesh.nodes[0]
    knot(mesh)
    with_upstream(node, "ns.example.org")
    ask, _ = dnsdist(mesh, "dnsdist-others", 7353, by_tls(mesh, "localhost"))
    out = wait_until("dnsdist has it", 120, lambda: (
        o := ask("host.example.org", "AAAA", "+dnssec")) and "2001:db8::2" in o and o)
    assert "RRSIG" in out and "status: NOERROR" in out, out
    out = ask("none.example.org", "AAAA", "+dnssec")
    assert "status: NXDOMAIN" in out and "NSEC" in out, out
    out = run("keymgr", "-c", mesh.dir + "/knot/knot.conf", "example.org", "ds")
    machine.trust("example.org", "\n".join(re.findall(r"example\.org\. DS .*", out))
                  .replace(" DS ", " IN DS ") + "\n")
    for server, tls in (("[::1]:" + local_port(node), "no"),
                        (f"[::1]:{quic_port(node)}#localhost", "yes")):
        machine.begin(server, tls, "yes", domain=".")
        for args, has in ((("host.example.org",), "2001:db8::1"),
                          (("alias.example.org",), "2001:db8::2"),
                          (("-t", "TXT", "brief.example.org"), '"brief"'),
                          (("www." + ZONE,), "2001:db8::80")):
            out = machine.query(*args)
            assert has in out and "authenticated: yes" in out, out
        code, out = machine.control("query", "none.example.org")
        assert code != 0 and "not found" in out, out


def main():
    isolate()
    with Mesh(nodes=1) as mesh:
        node = mesh.nodes[0]
        wait_until("the node's key is on the ledger", 120, lambda: node.get("/v1/zone")["keys"])
        register(node, "www", ("AAAA", "2001:db8::80"), ("TXT", '"first"'))
        register(node, "big", *(("TXT", f'"part {i:02} {"x" * 100}"') for i in range(20)))
        say(run("dnsdist", "--version").split("\n")[0] + " before a node")
        with_dnsdist(mesh)
        machine = with_resolved(mesh)
        say("other zones, by way of the node and Knot DNS")
        forwarded(mesh, machine)


main()
