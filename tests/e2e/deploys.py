# deploy-dev.sh as the tests run it.
import os, subprocess

from mesh import ROOT

SCRIPT = os.path.join(ROOT, "deploy-dev.sh")


def run(code, *args, says=(), hides=(), script=SCRIPT, **more):
    """The script to its end: its exit code, and what it must and must not say."""
    p = subprocess.run([*([script] if isinstance(script, str) else script), *args], text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       **more)
    assert p.returncode == code, (args, p.returncode, p.stdout)
    for text in says:
        assert text in p.stdout, (args, text, p.stdout)
    for text in hides:
        assert text not in p.stdout, (args, text, p.stdout)
    return p.stdout
