# What the tests of names share: a mesh's DNS asked by programs that none of us wrote, and others'
# servers beside it.
import os, signal, subprocess

from mesh import CLI, wait_until

ZONE = "dev.internal"


def run(*args, wants=0, env=None):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=300, env=env)
    assert p.returncode == wants, (args, p.returncode, p.stdout)
    return p.stdout


def quic_port(node):
    return str(8852 + node.number)


def local_port(node):
    return str(5300 + node.number)


def kdig(node, *args, how="+quic"):
    mesh = node.mesh
    return run("kdig", "@::1", "-p", quic_port(node), how, "+tls-ca=" + mesh.ca,
               "+tls-hostname=localhost", "+noidn", *args)


def dig(node, *args):
    return run("dig", "@::1", "-p", local_port(node), *args)


def start(mesh, *args, log, env=None):
    p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=open(log, "wb"),
                         stderr=subprocess.STDOUT, env=env)
    mesh.children.append(p)
    return p


def anchors(mesh, node):
    """The zone's DS records, by that node's word, as delv and as unbound want them."""
    zone = node.get("/v1/zone")
    assert zone["zone"] == ZONE
    delv, plain = os.path.join(mesh.dir, "anchor.delv"), os.path.join(mesh.dir, "anchor.ds")
    with open(delv, "w") as f, open(plain, "w") as g:
        f.write("trust-anchors {\n")
        for key in zone["keys"]:
            tag, algorithm, kind, digest = key["ds"].split()
            f.write(f'{ZONE}. static-ds {tag} {algorithm} {kind} "{digest}";\n')
            g.write(f"{ZONE}. IN DS {key['ds']}\n")
        f.write("};\n")
    return delv, plain


def knot(mesh):
    """A server of another zone, by QUIC, with a certificate of the mesh's authority."""
    folder = os.path.join(mesh.dir, "knot")
    os.mkdir(folder)
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", folder + "/key.pem", "-out", folder + "/csr.pem", "-subj", "/",
        "-addext", "subjectAltName=DNS:ns.example.org")
    env = dict(mesh.env(mesh.nodes[0]),
               HYPERMESH_TOKEN_FILE=os.path.join(mesh.dir, "trustchain/api.token"))
    p = subprocess.run([CLI, "cert", "issue", folder + "/csr.pem", "--profile", "server", "-o",
                        folder + "/cert.pem", "--authority", "https://[::1]:8443"], env=env,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert p.returncode == 0, p.stdout
    with open(folder + "/example.org.zone", "w") as f:
        f.write("""$ORIGIN example.org.
@ 300 SOA ns hostmaster 1 3600 600 86400 60
@ 300 NS ns
ns 300 AAAA ::1
host 3600 AAAA 2001:db8::1
host 3600 AAAA 2001:db8::2
alias 3600 CNAME host
brief 1 TXT "brief"
""")
    with open(folder + "/knot.conf", "w") as f:
        f.write(f"""server:
    rundir: {folder}
    listen-quic: ::1@8953
    cert-file: {folder}/cert.pem
    key-file: {folder}/key.pem
log:
  - target: stderr
    any: info
database:
    storage: {folder}
zone:
  - domain: example.org
    storage: {folder}
    file: example.org.zone
    dnssec-signing: on
""")
    process = start(mesh, "knotd", "-c", folder + "/knot.conf", log=folder + "/log")

    def answers():
        assert process.poll() is None, "knotd ended"
        return subprocess.run(["kdig", "@::1", "-p", "8953", "+quic", "+noidn", "example.org", "SOA",
                               "+short"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=300).stdout
    wait_until("knotd answers", 120, answers)
    return process


def with_upstream(node, name):
    node.signal(signal.SIGTERM)
    argv = [a for a in node.argv if b"upstream" not in a]
    node.argv = argv + [b"--dns-upstream=[::1]:8953#" + name.encode(),
                        b"--dns-upstream-ca=" + node.mesh.ca.encode()]
    node.start()
    node.wait_ready()
