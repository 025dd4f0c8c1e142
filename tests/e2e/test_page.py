#!/usr/bin/env python3
"""The page, in a real browser, on a running mesh. page.mjs drives; this makes the mesh and does to
it what the driver asks for."""
import subprocess

from driver import drive, prepare
from mesh import Mesh, isolate


def stranger(mesh):
    """Knocks at a node without a certificate."""
    subprocess.run(["openssl", "s_client", "-quic", "-alpn", "stoq/1", "-connect", "[::1]:9293"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=120)


def act(mesh, do, args):
    first = mesh.nodes[0]
    if do == "register":
        return first.request("POST", "/v1/assets", args)
    if do == "state":
        return first.request("POST", f"/v1/assets/{args['id']}/state", {"state": args["state"]})
    if do == "cli":
        return mesh.cli(first, *args)
    if do == "kill":
        mesh.nodes[args - 1].kill()
    elif do == "start":
        mesh.nodes[args - 1].start()
    elif do == "stranger":
        stranger(mesh)
    else:
        raise AssertionError(f"the driver asks for {do}")
    return None


def main():
    prepare()
    isolate()
    with Mesh() as mesh:
        drive("page.mjs", mesh.dir, lambda do, args: act(mesh, do, args))


main()
