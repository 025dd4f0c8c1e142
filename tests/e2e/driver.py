# What the tests of pages share: building the page and its driver, and doing what the driver asks for.
import json, os, subprocess, sys

from mesh import BIN, ROOT, say

HERE = os.path.dirname(os.path.realpath(__file__))


def prepare():
    """What may need the network, before it is gone."""
    if os.environ.get("HM_E2E_ISOLATED") == "1":
        return
    for command in (["scripts/npm-install.sh", "tests/e2e"],
                    ["scripts/build-dashboard.sh", "--if-old"]):
        subprocess.run([os.path.join(ROOT, command[0]), *command[1:]], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)


def drive(script, folder, act, keys=()):
    """Runs the driver; act(do, args) does to the servers what it asks for. keys: hashes of the keys
    of servers that the browser is to believe."""
    failures = os.path.join(os.path.dirname(BIN), "meson-logs")
    driver = subprocess.Popen(["node", os.path.join(HERE, script), folder, failures],
                              env=dict(os.environ, HM_E2E_KEYS=json.dumps(list(keys))),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in driver.stdout:
        ask = json.loads(line)
        if ask["do"] == "say":
            say(ask["args"])
            continue
        driver.stdin.write(json.dumps({"answer": act(ask["do"], ask["args"])}) + "\n")
        driver.stdin.flush()
    if driver.wait() != 0:
        sys.exit(1)
