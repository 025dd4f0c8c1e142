#!/usr/bin/env python3
"""The page, in a real browser, on a running mesh. page.mjs drives; this makes the mesh and does to
it what the driver asks for."""
import json, os, subprocess, sys

from mesh import BIN, ROOT, Mesh, isolate, say

HERE = os.path.dirname(os.path.realpath(__file__))


def prepare():
    """What may need the network, before it is gone."""
    if os.environ.get("HM_E2E_ISOLATED") == "1":
        return
    for command in (["scripts/npm-install.sh", "tests/e2e"], ["scripts/build-dashboard.sh"]):
        subprocess.run([os.path.join(ROOT, command[0]), *command[1:]], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)


def stranger(mesh):
    """Knocks at a node without a certificate."""
    subprocess.run(["openssl", "s_client", "-quic", "-alpn", "stoq/1", "-connect", "[::1]:9293"],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=20)


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
        failures = os.path.join(os.path.dirname(BIN), "meson-logs")
        driver = subprocess.Popen(["node", os.path.join(HERE, "page.mjs"), mesh.dir, failures],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in driver.stdout:
            ask = json.loads(line)
            if ask["do"] == "say":
                say(ask["args"])
                continue
            driver.stdin.write(json.dumps({"answer": act(mesh, ask["do"], ask["args"])}) + "\n")
            driver.stdin.flush()
        if driver.wait() != 0:
            sys.exit(1)


main()
