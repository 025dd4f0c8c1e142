# A machine with systemd for tests of services: box.sh in namespaces and a control group of its own.
import os, signal, subprocess, tempfile

from mesh import ROOT, wait_until


def cgroup2():
    with open("/proc/self/mountinfo") as f:
        for line in f:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                return fields[4]
    return None


class Box:
    """With it as a context the machine runs, with a folder of this one at /share; nothing of it is
    left afterwards."""

    def __init__(self, share):
        self.top = tempfile.mkdtemp(prefix="box-")
        self.group = os.path.join(cgroup2(), os.path.basename(self.top))
        os.mkdir(self.group)
        self.process = subprocess.Popen(
            ["sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "sh", self.group,
             "unshare", "-m", "-p", "-u", "-i", "-n", "-C", "--fork", "--kill-child",
             os.path.join(ROOT, "tests/e2e/box.sh"), self.top, share])
        try:
            self.first = wait_until("the machine's first process", 120, self._first)
            wait_until("systemd is up", 120, self._up)
        except BaseException:
            self.close()
            raise

    def _first(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return f.read().split()[:1]

    def _up(self):
        assert self.process.poll() is None, "the machine does not start"
        with open(f"/proc/{self.first[0]}/comm") as f:
            if f.read() != "systemd\n": # until then it would be this machine's that is asked
                return False
        state = self.run("systemctl is-system-running", code=None).strip()
        return state in ("running", "degraded")

    def run(self, command, code=0, env=()):
        """A shell command in it: its output, when it ends with that code (None: any)."""
        p = subprocess.run(
            ["nsenter", "-t", self.first[0], "-a", "env", "-i",
             "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *env,
             "bash", "-c", command], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert code is None or p.returncode == code, (command, p.returncode, p.stdout)
        return p.stdout

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_until("its processes are gone", 120, self._empty)
        for folder, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(folder)
        os.rmdir(self.top)

    def _empty(self):
        with open(os.path.join(self.group, "cgroup.events")) as f:
            return "populated 0" in f.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
