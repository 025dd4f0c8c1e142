#!/usr/bin/env python3
"""Names of the mesh: registered on one node, asked for on the others by programs that none of us
wrote (kdig by QUIC and TLS, dig, drill, delv and unbound, which check the signatures); and the
forwarder, with Knot DNS behind it."""
import json, os, re, subprocess, time

from mesh import CLI, Mesh, Refused, isolate, say, wait_until
from names import ZONE, anchors, dig, kdig, knot, local_port, quic_port, run, start, with_upstream


def keys_are_there(mesh):
    wait_until("every node's key is on the ledger", 120,
               lambda: all(len(n.get("/v1/zone")["keys"]) == 4 for n in mesh.nodes))
    for n in mesh.nodes:
        out = wait_until("the zone has the four keys", 120,
                         lambda: (o := dig(n, "+tcp", ZONE, "DNSKEY", "+short")).count("257 3 13")
                         == 4 and o)
        servers = dig(n, ZONE, "NS", "+short").split()
        assert sorted(servers) == [f"node-{i}.nodes.{ZONE}." for i in range(1, 5)], servers
        assert dig(n, servers[0], "AAAA", "+short").split() == ["::1"], out
    assert len({n.get("/v1/zone")["serial"] for n in mesh.nodes}) == 1


def registered(mesh):
    one, four = mesh.nodes[0], mesh.nodes[3]
    out = json.loads(mesh.cli(one, "dns", "register", "www", "--json", "--aaaa",
                              "2001:db8::80,2001:db8::81", "--txt", "of node-1"))
    wait_until("the block is final on node-4", 120, lambda: four.height() >= out["height"])
    wait_until("node-4 answers for it", 5,
               lambda: "2001:db8::80" in kdig(four, "www." + ZONE, "AAAA", "+short"))
    out = kdig(four, "www." + ZONE, "AAAA", "+dnssec")
    assert "QUICv1" in out and "status: NOERROR" in out and " aa " in out, out
    assert len(re.findall(r"\bAAAA\s+2001:db8::8[01]$", out, re.M)) == 2, out
    assert re.search(r"RRSIG\s+AAAA 13 3 60 ", out) and "PADDING" in out, out
    out = kdig(four, "www." + ZONE, "TXT", how="+tls")
    assert '"of node-1"' in out, out
    out = mesh.cli(four, "dns", "resolve", "www", "--json", "--server", "[::1]:" + quic_port(four))
    assert json.loads(out)["secure"], out
    found = mesh.cli(four, "dns", "list")
    assert "www." + ZONE in found and "2001:db8::81" in found, found
    try:
        mesh.nodes[1].request("POST", "/v1/names", {"name": "www"})
        raise AssertionError("a name was registered twice")
    except Refused as e:
        assert e.status == 409, e


def checked_by_others(mesh):
    delv, plain = anchors(mesh, mesh.nodes[1])
    for n in mesh.nodes:
        for how in ("+tcp", "+notcp"):
            def ask(name, kind):
                return run("delv", "@::1", "-p", local_port(n), "-a", delv, "+root=" + ZONE, how,
                           name, kind)
            assert "; fully validated" in ask("www." + ZONE, "AAAA")
            for name, kind in (("www." + ZONE, "A"), ("nope." + ZONE, "AAAA"),
                               ("a.b.nope." + ZONE, "TXT"), (ZONE, "AAAA")):
                out = ask(name, kind)
                assert "negative response, fully validated" in out, out
    out = run("drill", "-D", "-p", local_port(mesh.nodes[2]), "@::1", "www." + ZONE, "AAAA")
    assert "rcode: NOERROR" in out and "RRSIG" in out, out
    out = dig(mesh.nodes[2], "nope." + ZONE, "AAAA")
    assert "status: NXDOMAIN" in out and "\tSOA\t" in out, out
    out = dig(mesh.nodes[2], "nope." + ZONE, "AAAA", "+dnssec")
    assert "status: NOERROR" in out and "RRSIG NSEC TYPE128" in out.replace("NXNAME", "TYPE128")
    for name, kind in (("example.org", "AAAA"), (ZONE, "AXFR")):
        out = dig(mesh.nodes[2], "+tcp", name, kind, "+noall", "+comments", "+answer")
        assert "status: REFUSED" in out or "Transfer failed" in out, out
    return plain


def unbound(mesh, plain, port, name):
    """A resolver that checks, over the nodes' plain ports."""
    folder = os.path.join(mesh.dir, name)
    os.mkdir(folder)
    with open(folder + "/unbound.conf", "w") as f:
        f.write(f"""server:
  interface: ::1@{port}
  do-ip4: no
  do-daemonize: no
  username: ""
  chroot: ""
  directory: {folder}
  pidfile: {folder}/pid
  use-syslog: no
  logfile: ""
  do-not-query-localhost: no
  local-zone: "internal." nodefault
  trust-anchor-signaling: no
  trust-anchor-file: {plain}
stub-zone:
  name: {ZONE}
  stub-addr: ::1@5302
  stub-addr: ::1@5303
  stub-addr: ::1@5304
remote-control:
  control-enable: no
""")
    start(mesh, "unbound", "-c", folder + "/unbound.conf", log=folder + "/log")

    def ask(*args):
        return subprocess.run(["dig", "@::1", "-p", str(port), *args], stdout=subprocess.PIPE,
                              text=True, timeout=300).stdout
    wait_until(name + " answers", 120, lambda: "status:" in ask("+tries=1", "+time=1", "localhost"))
    return ask


def checked_by_unbound(mesh, plain):
    ask = unbound(mesh, plain, 5399, "unbound")
    for args, wants in ((("www." + ZONE, "AAAA"), "NOERROR"), (("www." + ZONE, "A"), "NOERROR"),
                        (("nope." + ZONE, "AAAA"), "NOERROR"), ((ZONE, "DNSKEY"), "NOERROR")):
        out = ask(*args, "+dnssec")
        assert "status: " + wants in out and re.search(r"flags:[^;]* ad[ ;]", out), out
    # With another trust anchor it is all bogus.
    with open(plain) as f:
        lines = [x[:-9] + "00000000\n" for x in f]
    with open(plain + ".wrong", "w") as f:
        f.writelines(lines)
    out = unbound(mesh, plain + ".wrong", 5398, "unbound-wrong")("www." + ZONE, "AAAA")
    assert "status: SERVFAIL" in out, out


def everywhere(mesh, name, kind, has, seconds=5):
    """What all nodes answer, once it is so."""
    wait_until(f"every node says {has!r} of {name}", seconds,
               lambda: all(has in dig(n, name, kind, "+short") for n in mesh.nodes))


def changes(mesh):
    one, two = mesh.nodes[:2]
    mesh.cli(one, "dns", "set", "www", "--aaaa", "2001:db8::99")
    everywhere(mesh, "www." + ZONE, "AAAA", "2001:db8::99")
    assert "of node-1" in dig(two, "www." + ZONE, "TXT", "+short") # not given: it stays
    mesh.cli(one, "dns", "register", "a.www", "--txt", "below")
    everywhere(mesh, "a.www." + ZONE, "TXT", "below")
    p = subprocess.run([CLI, "dns", "register", "b.www"], env=mesh.env(two),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 6 and "no right" in p.stderr, p
    mesh.cli(one, "dns", "transfer", "www", "--to", "node-2")
    p = subprocess.run([CLI, "dns", "set", "www", "--txt", "mine"], env=mesh.env(one),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 6 and "no right" in p.stderr, p
    mesh.cli(two, "dns", "set", "www." + ZONE, "--txt", "of node-2")
    everywhere(mesh, "www." + ZONE, "TXT", "of node-2")
    before = mesh.nodes[3].get("/v1/names/www")["expires_ms"]
    mesh.cli(two, "dns", "renew", "www", "--days", "500")
    wait_until("it lives longer", 120,
               lambda: mesh.nodes[3].get("/v1/names/www")["expires_ms"] > before)

    mesh.cli(one, "dns", "register", "lab")
    ds = "4711 13 2 " + "ab" * 32
    mesh.cli(one, "dns", "delegate", "lab", "--ns", f"ns.example.net,lab.{ZONE}", "--aaaa",
             "2001:db8::53", "--ds", ds)
    wait_until("all nodes refer to its servers", 5, lambda: all(
        "lab.dev.internal." in dig(n, "x.lab." + ZONE, "AAAA") for n in mesh.nodes))
    out = kdig(mesh.nodes[3], "x.y.lab." + ZONE, "AAAA", "+dnssec")
    assert " aa" not in out.split(";; EDNS")[0] and "2001:db8::53" in out, out
    assert re.search(r"\bDS\s+4711 13 2", out) and re.search(r"RRSIG\s+DS 13", out), out

    # A suspended name is not shown, and a retired one is gone.
    asset = one.get("/v1/names/lab")["asset"]
    one.request("POST", f"/v1/assets/{asset}/state", {"state": "suspended"})
    wait_until("nobody knows it", 5, lambda: all(
        "NXDOMAIN" in dig(n, "x.lab." + ZONE, "AAAA") for n in mesh.nodes))
    one.request("POST", f"/v1/assets/{asset}/state", {"state": "available"})
    one.request("POST", f"/v1/assets/{asset}/retire", {})
    wait_until("it is gone", 5, lambda: all(
        "NXDOMAIN" in dig(n, "lab." + ZONE, "NS") for n in mesh.nodes))
    for body, status in (({"name": "-x"}, 422), ({"name": "x.nodes"}, 422),
                         ({"name": "x", "records": [{"type": "A", "data": "1.2.3.4"}]}, 400),
                         ({"name": "x", "records": [{"type": "AAAA", "data": "::g"}]}, 400),
                         ({"name": "x", "life_s": 1}, 422), ({}, 400)):
        try:
            one.request("POST", "/v1/names", body)
            raise AssertionError(f"{body} was taken")
        except Refused as e:
            assert e.status == status, (body, e)


def restarted(mesh):
    node = mesh.nodes[3]
    node.kill()
    node.start()
    node.wait_ready()
    wait_until("it answers as before", 120,
               lambda: "of node-2" in kdig(node, "www." + ZONE, "TXT", "+short"))
    delv, _ = anchors(mesh, mesh.nodes[1])
    assert "; fully validated" in run("delv", "@::1", "-p", local_port(node), "-a", delv,
                                      "+root=" + ZONE, "www." + ZONE, "TXT")


def forwarded(mesh):
    node = mesh.nodes[2]
    server = knot(mesh)
    with_upstream(node, "ns.example.org")
    out = wait_until("the forwarder answers", 120, lambda: (
        o := kdig(node, "host.example.org", "AAAA", "+dnssec")) and "NOERROR" in o and o)
    assert "2001:db8::2" in out and "RRSIG" in out and " ra" in out and " aa" not in out, out
    asked = node.metric("hm_dns_forwarded_cached_total")
    assert dig(node, "Host.Example.Org", "AAAA", "+short").split() == ["2001:db8::1",
                                                                      "2001:db8::2"]
    out = dig(node, "+tcp", "host.example.org", "AAAA", "+short")
    assert "2001:db8::1" in out
    wait_until("the second one came from the cache", 5,
               lambda: node.metric("hm_dns_forwarded_cached_total") > asked)
    assert "host.example.org." in dig(node, "alias.example.org", "AAAA", "+short")
    assert "NXDOMAIN" in dig(node, "none.example.org", "AAAA")
    out = kdig(node, "host.example.org", "AAAA", how="+tls")
    assert "2001:db8::2" in out, out
    out = mesh.cli(node, "dns", "resolve", "host.example.org.", "--server",
                   "[::1]:" + quic_port(node))
    assert "2001:db8::1" in out and "not checked here" in out, out
    assert "2001:db8::99" in dig(node, "www." + ZONE, "AAAA", "+short") # the zone is its own
    # Knot lets a connection ask 1024 times: another one takes its place.
    many = os.path.join(mesh.dir, "many")
    with open(many, "w") as f:
        f.writelines(f"n{i}.example.org AAAA\n" for i in range(1500))
    out = dig(node, "-f", many, "+noall", "+comments")
    assert out.count("NXDOMAIN") == 1500, out[-2000:]
    assert "brief" in dig(node, "brief.example.org", "TXT", "+short")
    time.sleep(1.1) # that record's own time is what is waited for
    server.kill()
    server.wait()
    assert "2001:db8::1" in dig(node, "host.example.org", "AAAA", "+short") # kept for an hour
    out = dig(node, "+time=60", "+tries=1", "brief.example.org", "TXT")
    assert "SERVFAIL" in out, out
    # A server that cannot prove its name is not believed.
    os.rename(mesh.dir + "/knot", mesh.dir + "/knot-1")
    knot(mesh)
    with_upstream(node, "ns.example.net")
    out = dig(node, "+time=60", "+tries=1", "host.example.org", "AAAA")
    assert "SERVFAIL" in out, out
    assert "upstream lost" in node.log(), "nothing is said of the server's certificate"
    with_upstream(node, "ns.example.org")
    assert "2001:db8::1" in dig(node, "+time=60", "+tries=1", "host.example.org", "AAAA", "+short")


def main():
    isolate()
    with Mesh() as mesh:
        say("every node's key is in the zone")
        keys_are_there(mesh)
        say("registered on node-1, asked for on node-4")
        registered(mesh)
        say("the signatures hold: delv, drill, dig")
        plain = checked_by_others(mesh)
        say("unbound checks them")
        checked_by_unbound(mesh, plain)
        say("changes are everywhere at once")
        changes(mesh)
        say("after kill -9")
        restarted(mesh)
        say("other zones, by way of Knot DNS")
        forwarded(mesh)
        mesh.agree()


main()
