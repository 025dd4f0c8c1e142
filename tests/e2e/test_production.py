#!/usr/bin/env python3
"""deploy-production.sh on machines of their own, with systemd as the first process: what it refuses;
install, a certificate, an asset, kill -9, an upgrade, an upgrade that does not come up, a copy,
uninstall, and the copy on an empty machine, which then has the same ledger and certificates; a wrong
passphrase and a changed copy; keys in a token; the units by systemd's own judgement."""
import glob, json, os, re, shutil, subprocess, sys, tempfile

from box import Box, cgroup2
from mesh import ROOT, say

BUILD = os.environ.get("HM_BUILD", "build-release")
SCRIPT = f"cd {ROOT} && ./deploy-production.sh"
EMPTY = ("for d in /var/lib/{trustchain,hypermesh,stoq} /etc/hypermesh; do "
         "[ ! -e $d ] || exit 1; done")
CA = "--ca /var/lib/hypermesh/edge-root.crt"


def refused(code, text, *args):
    p = subprocess.run([os.path.join(ROOT, "deploy-production.sh"), *args], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert p.returncode == code and text in p.stdout, (args, p.returncode, p.stdout)


def options(tmp):
    short, open_ = os.path.join(tmp, "short"), os.path.join(tmp, "open")
    for path, mode in ((short, 0o600), (open_, 0o644)):
        with open(path, "w") as f:
            f.write("too short\n")
        os.chmod(path, mode)
    refused(2, "no option --frob", "--frob")
    refused(2, "needs a value", "--prefix")
    refused(2, "one at a time", "--status", "--uninstall")
    refused(2, "goes with --uninstall", "--purge")
    refused(2, "needs --passphrase-file", "--backup", os.path.join(tmp, "copy"))
    refused(2, "goes with --backup", "--passphrase-file", short)
    refused(2, "fewer than 12", "--backup", os.path.join(tmp, "copy"), "--passphrase-file", short)
    refused(2, "others can read", "--backup", os.path.join(tmp, "copy"), "--passphrase-file", open_)
    refused(2, "IPv6 address", "--address", "10.0.0.1")
    refused(2, "1 to 32 of a-z", "--mesh", "A mesh")
    refused(2, "needs both", "--hsm-module", "/usr/lib/token.so")
    refused(2, "there is no module", "--hsm-module", "/no/such.so", "--hsm-pin-file", short)
    refused(2, "absolute path", "--prefix", "here")


def units(tmp):
    """Written without a mistake, and closed: systemd's own figure, 0 the best and 10 the worst."""
    for path in glob.glob(os.path.join(ROOT, "deploy/systemd/*.[st]*")):
        if path.endswith(".service"):
            with open(path) as f:
                text = f.read()
            text = text.replace("@PREFIX@/bin", os.path.join(ROOT, BUILD, "src/server"))
            text = text.replace("@PREFIX@", "/usr/local")
            with open(os.path.join(tmp, os.path.basename(path)), "w") as f:
                f.write(text)
    made = sorted(glob.glob(os.path.join(tmp, "*.service")))
    p = subprocess.run(["systemd-analyze", "verify", "--man=no", *made], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert p.returncode == 0 and p.stdout == "", p.stdout
    for path in filter(lambda f: f.endswith(".service"), made):
        p = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", path],
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert p.returncode == 0, p.stdout
        say(os.path.basename(path) + " " + p.stdout.rsplit(": ", 1)[1].rstrip())


def deploy(box, args="", code=0, env=()):
    return box.run(f"{SCRIPT} --no-build {args}", code, [f"HM_BUILD={BUILD}", *env])


def ask(box, command):
    return json.loads(box.run(f"hypermesh {command} --json {CA}"))


def state(box):
    """What must come back: blocks, assets, certificates, roots and the node's own key."""
    return {
        "blocks": [(b["height"], b["id"]) for b in ask(box, "ledger list --limit 100")["items"]],
        "assets": ask(box, "asset list"),
        "certificates": ask(box, "cert list"),
        "files": box.run("cd /var/lib && sha256sum trustchain/*-root.crt trustchain/api.token "
                         "hypermesh/node.key hypermesh/genesis.bin stoq/node.key"),
    }


def compare(before, box):
    after = state(box)
    for what in ("assets", "certificates", "files"):
        assert before[what] == after[what], (what, before[what], after[what])
    assert before["blocks"] and set(before["blocks"]) <= set(after["blocks"]), (before, after)


def use_it(box):
    box.run("cd /tmp && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc "
            "-keyout s.key -subj /CN=web.test -addext subjectAltName=DNS:web.test -out s.csr")
    box.run(f"hypermesh cert issue /tmp/s.csr --profile server -o /tmp/s.crt {CA} "
            "--token-file /var/lib/trustchain/api.token")
    box.run("openssl verify -CAfile /var/lib/trustchain/edge-root.crt -untrusted /tmp/s.crt /tmp/s.crt")
    box.run("mkdir /tmp/assets && cp /usr/include/stdio.h /tmp/assets && "
            f"hypermesh asset import /tmp/assets --policy public {CA} "
            "--token-file /var/lib/hypermesh/api.token")


def life(share):
    with Box(share) as box:
        say("install")
        out = deploy(box, "--mesh prod --hardware-accel")
        assert out.count(" active    ready") == 3 and "hardware: aes" in out, out
        assert deploy(box, "--status").count(" active    ready") == 3
        assert "no interface has an IPv6 default route" in out, out
        for folder in ("trustchain", "hypermesh", "stoq"):
            assert box.run(f"stat -c '%U %a' /var/lib/{folder}") == f"{folder} 700\n"
        ours = "grep -cE 'trustchain|hypermesh|stoq' || true"
        assert int(box.run(f"ss -lntupH6 | {ours}")) >= 5
        assert int(box.run(f"ss -lntupH4 | {ours}")) == 0, "IPv4 listens"
        use_it(box)
        before = state(box)

        say("kill -9")
        for unit in ("trustchain", "hypermesh", "stoq"):
            box.run(f"systemctl kill -s KILL {unit}.service")
        deploy(box)  # again: changes nothing, waits until all is well
        compare(before, box)

        say("upgrade")
        box.run(f"echo later >>{ROOT}/docs/stoq.md")
        assert "upgraded from" in deploy(box)
        compare(before, box)
        release = box.run("readlink /usr/local/lib/hypermesh/current")

        say("an upgrade that does not come up")
        box.run(f"cd {ROOT} && rm {BUILD}/src/server/hypermesh-server && printf '#!/bin/sh\nexit 3\n' "
                f">{BUILD}/src/server/hypermesh-server && chmod 755 {BUILD}/src/server/hypermesh-server")
        out = deploy(box, code=1)
        assert "does not come up: back to" in out and "runs again" in out, out
        assert box.run("readlink /usr/local/lib/hypermesh/current") == release
        compare(before, box)

        say("a copy")
        box.run("umask 077; echo correct horse battery >/share/pass; echo another one, wrong >/share/bad")
        deploy(box, "--backup /share/copy --passphrase-file /share/pass")
        compare(before, box)
        assert "is there already" in deploy(box, "--backup /share/copy --passphrase-file /share/pass", 2)
        secrets = box.run("cat /var/lib/trustchain/api.token /var/lib/hypermesh/api.token").split()
        with open(os.path.join(share, "copy"), "rb") as f:
            copy = f.read()
        assert b"PRIVATE KEY" in copy and not any(s.encode() in copy for s in secrets)

        say("uninstall")
        deploy(box, "--uninstall")
        box.run("test -e /var/lib/trustchain/edge-root.crt && ! command -v hypermesh && "
                "! systemctl cat hypermesh.service")
        deploy(box, "--uninstall --purge")
        box.run(f"{EMPTY} && ! test -e /usr/local/lib/hypermesh && ! getent passwd trustchain")

    with Box(share) as box:
        say("restore on an empty machine")
        for name, damage in (("cut", copy[:len(copy) // 2]), ("flip", None)):
            if damage is None:
                at = copy.rindex(b"data.tar\0") + 4096
                damage = copy[:at] + bytes([copy[at] ^ 1]) + copy[at + 1:]
            with open(os.path.join(share, name), "wb") as f:
                f.write(damage)
            deploy(box, f"--restore /share/{name} --passphrase-file /share/pass", 1)
        out = deploy(box, "--restore /share/copy --passphrase-file /share/bad", 1)
        assert "right passphrase" in out, out
        box.run(EMPTY)
        deploy(box, "--restore /share/copy --passphrase-file /share/pass")
        compare(before, box)
        assert "is there: a copy is restored to a machine without data" in deploy(
            box, "--restore /share/copy --passphrase-file /share/pass", 1)
        box.run(f"hypermesh ledger verify {CA} --genesis /var/lib/hypermesh/genesis.bin")


def token(share):
    with Box(share) as box:
        say("keys in a token")
        deploy(box, "--hsm")
        use_it(box)
        box.run("test -e /var/lib/trustchain/authority/hsm.uri && "
                "! ls /var/lib/trustchain/authority/*-ca.key")
        assert "pin-source" not in box.run("cat /var/lib/trustchain/authority/hsm.uri")
        assert "keys in files" not in deploy(box, "--hsm")


def main():
    with tempfile.TemporaryDirectory() as tmp:
        options(tmp)
        units(tmp)
    if "--bounded" in sys.argv:
        return
    if os.geteuid() != 0 or not cgroup2():
        print("skipped: needs root and control groups of version 2")
        sys.exit(77)
    share = tempfile.mkdtemp(prefix="share-")
    try:
        life(share)
        token(share)
    finally:
        shutil.rmtree(share)


main()
