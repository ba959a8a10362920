"""The steps of the Dockerfile: read, and run as a script where nothing can build images.

`python tests/helpers/dockerfile.py` (root, Linux) lays an empty layer over this machine's files, takes every step in it
with this machine's Python for the base image's, and starts what the image starts: as the image's user, as process 1,
without a network. It asks for health and a picture and sends SIGTERM. Nothing outside the layer changes.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

INDEX = re.compile(r"--index-url (\S+)")
TOP = Path(__file__).resolve().parents[2]
PYTHON = "/opt/base-python"  # a virtual environment in the layer, in the place of the base image's Python


def steps() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (TOP / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def variables() -> dict[str, str]:
    """What ENV sets."""
    return {
        k: v for word, rest in steps() if word == "ENV" for k, _, v in (p.partition("=") for p in shlex.split(rest))
    }


def context(folder: Path) -> None:
    """What .dockerignore lets through, in `folder`."""
    lines = (TOP / ".dockerignore").read_text("utf-8").split()
    left_out = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for name in [line[1:] for line in lines if line.startswith("!")]:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy(TOP / name, folder / name)


def own_index(asked: re.Match[str]) -> str:
    """The option for an index of packages; none, so that pip takes this machine's, where that index is out of reach."""
    try:
        urllib.request.urlopen(asked[1], timeout=10).close()
    except OSError as error:
        print(f"{asked[1]} is out of reach ({error}): its packages come from this machine's own index", flush=True)
        return ""
    return asked[0]


def script(copied: str) -> str:
    """The steps as a shell script for root, in which `copied` is the context's folder."""
    lines = ["set -eu", f"python3 -m venv {PYTHON}", f"export PATH={PYTHON}/bin:$PATH"]
    for word, rest in steps():
        if word == "ENV":
            lines.append(f"export {rest}")
        elif word == "WORKDIR":
            lines.append(f"mkdir -p {rest}; cd {rest}")
        elif word == "COPY":
            *names, to = rest.split()
            for name in names:  # the contents of a folder, the file of a file
                lines.append(f"mkdir -p {to}; cp -r {copied}/{name}{'/.' if (TOP / name).is_dir() else ''} {to}")
        elif word == "RUN":
            lines.append(INDEX.sub(own_index, rest))
        elif word == "USER":
            break
    return "\n".join(lines)


def build(work: Path) -> None:
    """In a mount namespace of its own: the layer, every step in it, and then the service."""
    for name in ("upper", "work", "root", "context"):
        (work / name).mkdir()
    context(work / "context")
    layer = f"lowerdir=/,upperdir={work}/upper,workdir={work}/work"
    root = str(work / "root")
    call("mount", "-t", "overlay", "overlay", "-o", layer, root)
    for name in ("/dev", "/proc", "/sys"):
        call("mount", "--rbind", name, root + name)
    for parent in Path(sys.base_prefix).resolve().parents:  # this machine's Python may lie in a home
        (work / "root" / parent.relative_to("/")).chmod(0o755)
    (work / "upper/opt").mkdir(exist_ok=True)
    (work / "root/opt/steps.sh").write_text(script(str(work / "context")))
    call("chroot", root, "sh", "/opt/steps.sh")
    call("unshare", "--net", sys.executable, __file__, "serve", root)


def serve(root: str) -> None:
    """Without a network: run what the image runs and ask it."""
    loopback_up()
    last = dict(steps())
    user, port = last["USER"], int(last["EXPOSE"])
    home = [rest for word, rest in steps() if word == "WORKDIR"][-1]
    given = {**variables(), "PATH": f"{PYTHON}/bin:/usr/bin:/bin", "HOME": home}
    within = ["chroot", root, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", "-i"]
    within += [*(f"{k}={v}" for k, v in given.items()), "sh", "-c", f'cd {home} && exec "$@"', "sh"]
    unshared = ["unshare", "--pid", "--fork", "--kill-child", *within, *json.loads(last["ENTRYPOINT"])]
    server = subprocess.Popen(unshared, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        print(line, end="", flush=True)
        if "Serving on" in line:
            break
    (first,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    owner = Path(f"/proc/{first}").stat().st_uid
    assert owner == int(user), f"the service runs as user {owner}"
    call(*within, *json.loads(last["HEALTHCHECK"].partition("CMD ")[2]))
    call(*within, "sh", "-c", "touch $NSBGAN_CACHE/a && ! touch /app/a 2>/dev/null")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/generate", '{"class": 207}', {"content-type": "application/json"})
    answer = connection.getresponse()
    picture = answer.read()
    assert answer.status == 200 and picture.startswith(b"\x89PNG"), picture[:200]
    begun = time.monotonic()
    os.kill(int(first), signal.SIGTERM)
    code = server.wait(60)
    assert code == 143, f"exit code {code}"
    print(f"a picture of {len(picture)} bytes; ended {time.monotonic() - begun:.1f} s after SIGTERM", flush=True)


def loopback_up() -> None:
    """Switch the loopback device of a new network namespace on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        fcntl.ioctl(some, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def call(*command: str) -> None:
    """Run it, and end where it fails."""
    subprocess.run(command, check=True)


def main() -> None:
    """See the module's docstring."""
    if sys.argv[1:2] == ["build"]:
        build(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        with tempfile.TemporaryDirectory(prefix="nsbgan-image-") as work:
            call("unshare", "--mount", "--propagation", "private", sys.executable, __file__, "build", work)


if __name__ == "__main__":
    main()
