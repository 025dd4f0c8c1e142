# What the tests of names share: a mesh's DNS asked by programs that none of us wrote, and others'
# servers beside it.
import os, subprocess

ZONE = "dev.internal"


def run(*args, wants=0, env=None):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=60, env=env)
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
