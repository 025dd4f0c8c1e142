#!/usr/bin/env python3
"""What is made from the command line's one table is whole and agrees: parsing, --help of every
level, the man page, completion. Arguments: hypermesh, hypermesh.1, hypermesh.bash, _hypermesh."""
import functools, json, os, re, shutil, subprocess, sys

hypermesh, man, bash, zsh = (os.path.realpath(a) for a in sys.argv[1:5])
env = {k: v for k, v in os.environ.items() if not k.startswith("HYPERMESH_")}
# Nothing may be asked: a usage is judged before.
env["HYPERMESH_NODE"] = env["HYPERMESH_AUTHORITY"] = "https://[::1]:1"


def run(*args):
    p = subprocess.run([hypermesh, *args], env=env, capture_output=True, text=True)
    return p.returncode, p.stdout, p.stderr


def good(*args):
    code, out, err = run(*args)
    assert code == 0 and out and not err, (args, code, err)
    return out


def wrong(*args, says):
    """Exit code 2, one line that says what is wrong, and with --json the same as an Error."""
    code, out, err = run(*args)
    assert code == 2 and not out, (args, code, out)
    assert err.count("\n") == 1 and err.startswith("hypermesh"), (args, err)
    assert says in err, (args, says, err)
    code, out, err = run("--json", *args)
    error = json.loads(out)["error"]
    assert code == 2 and error["code"] in ("USAGE", "CONFIG"), (args, out)
    assert set(error) == {"code", "message", "detail"} and error["detail"] in err, (args, out, err)


def section(text, title):
    """Its entries: what stands on the left, and the text beside it."""
    entries, inside = [], False
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = line == title + ":"
        elif inside and re.match(r"  \S", line):
            left, _, right = line.strip().partition("  ")
            entries.append([left, right.strip()])
        elif inside and entries:
            entries[-1][1] += " " + line.strip()
    return entries


top = good("--help")
assert all(len(line) <= 80 for line in top.splitlines()), "a line of --help is too long"
assert top == good("help") == good("-h") and run()[0] == 2
assert good("--version").startswith("hypermesh ")
exits = dict(section(top, "Exit codes"))
assert set("0123456") <= set(exits), exits

commands = []
for left, text in section(top, "Commands"):
    words = [w for w in left.split() if re.fullmatch(r"[a-z][a-z-]*", w)]
    argument = [w for w in left.split() if w not in words]
    commands.append((words, argument, text))
assert len(commands) >= 25, len(commands)
groups = sorted({w[0] for w, _, _ in commands if len(w) == 2})
assert {"node", "asset", "proof", "ledger", "cert", "stoq"} <= set(groups), groups

with open(man) as f:
    man_text = f.read()
assert man_text == good("man"), "the man page is not of this program"
plain = man_text.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
with open(bash) as f:
    bash_text = f.read()
assert bash_text == good("completion", "bash")
with open(zsh) as f:
    zsh_text = f.read()
assert zsh_text == good("completion", "zsh")


@functools.cache
def complete(*words):
    """What bash offers for the last of these words."""
    script = (f"source {bash}; COMP_LINE=$1; COMP_POINT=${{#1}}; _hypermesh; "
              "printf '%s\\n' \"${COMPREPLY[@]}\"")
    p = subprocess.run(["bash", "-c", script, "bash", " ".join(("hypermesh",) + words)],
                       capture_output=True, text=True)
    assert not p.stderr, p.stderr
    return p.stdout.split()


for group in groups:
    text = good(group, "--help")
    of = [w for w, _, _ in commands if w[0] == group]
    assert text.startswith(f"usage: hypermesh {group} COMMAND"), text
    assert len(section(text, "Commands")) == len(of), text
    names = [w[1] for w in of]
    wrong(group, says=f"{group} needs one of {', '.join(names)}")
    wrong(group, "nosuch", says=f"unknown command {group} nosuch")
    assert set(complete(group, "")) == set(names), complete(group, "")
assert set(complete("")) == {w[0] for w, _, _ in commands} | {"help"}

options_seen = 0
for words, argument, help_ in commands:
    text = good(*words, "--help")
    name = " ".join(words)
    assert text == good("help", *words)
    assert text.startswith(f"usage: hypermesh {name}"), text
    assert all(len(line) <= 80 for line in text.splitlines()), f"{name} --help: a long line"
    assert help_.strip()[1:] + "." in re.sub(r"\s+", " ", text), (name, help_)
    assert f"\nhypermesh {name}" in plain, f"{name} is not in the man page"
    own, common = section(text, "Options"), section(text, "Options of every command")
    assert [o[0] for o in common] == [o[0] for o in section(top, "Options of every command")]
    needed = []
    for left, about in own + common:
        options_seen += 1
        flag = re.search(r"--[a-z-]+", left).group()
        assert re.search(r"^(-., )?" + flag + r"\b", plain, re.M), f"{flag} is not in the man page"
        assert flag in complete(*words, "--"), (name, flag, complete(*words, "--"))
        assert f"{flag}[" in zsh_text or f",{flag}}}" in zsh_text, f"{flag} is not in _hypermesh"
        if [left, about] in common and name != "status":
            continue # parsed alike everywhere
        takes_value = len(left.split()) > (2 if left.startswith("-") and left[1] != "-" else 1)
        if takes_value:
            wrong(*words, flag, says=f"{flag} needs a value")
            if left.startswith("-") and left[1] != "-":
                wrong(*words, left[:2], says=f"{left[:2]} needs a value")
        else:
            wrong(*words, flag + "=1", says=f"{flag} takes no value")
        if "(needed)" in about:
            needed.append(flag)
    args = ["x"] if argument else []
    if argument and not argument[0].startswith("["):  # in brackets it may be left out
        wrong(*words, says=f"{argument[0]} is needed")
    if argument:
        wrong(*words, "", says="is empty")
    if needed:
        wrong(*words, *args, says=f"{needed[0]} ")
    wrong(*words, *args, "more", says='"more" is one argument too many')
    wrong(*words, *args, "--nosuch", says="unknown option --nosuch")
    wrong(*words, *args, "-x", says="unknown option -x")
    # An option of another command is not taken.
    foreign = "--patience" if name != "asset import" else "--crl"
    wrong(*words, *args, foreign, "1", says=f"unknown option {foreign}")
    for left, about in own:
        flag = re.search(r"--[a-z-]+", left).group()
        listed = re.search(r": ([a-z]\S*(?: [a-zA-Z_]+)+)(?: [(\[].*)?$", about)
        if listed and left.split()[-1] in ("KIND", "STATE", "WORD"):
            values = listed.group(1).split()
            others = [a for f in needed if f != flag for a in (f, "cpu" if f == "--kind" else "x")]
            wrong(*words, *args, *others, flag, "nosuch", says=f'{flag} is "nosuch"; it takes one of')
            assert set(complete(*words, flag, "")) == set(values), (name, flag, values)
assert options_seen > 150, options_seen

assert complete("--node", "https://[::1]:8444", "asset", "li") == ["list"]
assert complete("asset", "--node", "https://[::1]:8444", "list", "--st") == ["--state"]
assert os.path.basename(man) in map(os.path.basename,
                                    complete("asset", "register", "--file", man[:-1]))

# Hints, and what stands before a command.
wrong("aset", "list", says="did you mean asset")
wrong("asset", "lst", says="did you mean list")
wrong("asset", "list", "--stat", "x", says="did you mean --state")
wrong("--kind", "cpu", "asset", "list", says="unknown option --kind before a command")
wrong("completion", "fish", says="bash and zsh")
code, out, err = run("--node", "https://[::1]:1", "status")
assert code == 3 and "no answer" in err, (code, err)
for url in ("nonsense", "ftp://[::1]/", "https://"):
    wrong("--node", url, "status", says="a URL such as https://[::1]:8444 is needed")
wrong("--node", "https://127.0.0.1:8444", "status", says="only IPv6 is spoken")
for limit in ("0", "-1", "x", "99999999999999999999"):
    wrong("asset", "list", "--limit", limit, says="--limit is")

for tool, command in (("mandoc", ["mandoc", "-Tlint", "-Wwarning", man]),
                      ("man", ["man", "--warnings", "-l", "-Tutf8", "-Z", man])):
    if not shutil.which(tool):
        print(f"test: {tool} is not here: the man page is not checked by it")
        continue
    p = subprocess.run(command, capture_output=True, text=True,
                       env=dict(env, LC_ALL="C.UTF-8", MANPAGER="cat"))
    problems = p.stderr + (p.stdout if tool == "mandoc" else "")
    assert p.returncode == 0 and not problems.strip(), problems
subprocess.run(["bash", "-n", bash], check=True)
if shutil.which("zsh"):
    subprocess.run(["zsh", "-n", zsh], check=True)
else:
    print("test: zsh is not here: its completion is not checked by it")
print(f"test: passed, {len(commands)} commands, {options_seen} options")
