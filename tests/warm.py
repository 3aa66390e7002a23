"""A Python that has imported the libraries already, so that a stage starts in milliseconds and not in seconds.

`dvc repro` runs `python -m stages.<name>` for every stage anew, and `import torch` alone takes three seconds. Here
`python`, `dvc` and `shipyard` on the PATH are small clients of a server that has the libraries loaded and forks.
Our own modules are not among them: each fork imports those of the repository that it runs in.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = (
    "dvc.cli.parser",
    "dvc.repo.reproduce",
    "h5py",
    "open_clip",
    "pyarrow.parquet",
    "safetensors.torch",
    "sklearn.linear_model",
    "torch",
    "typer",
    "zarr",
)
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = {{"program": {program!r}, "args": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "self": __file__}}
asked = json.dumps(asked).encode()
socket.send_fds(server, [len(asked).to_bytes(4)], [0, 1, 2])
server.sendall(asked)
sys.exit(int.from_bytes(server.recv(1) or bytes([70])))
"""


@contextmanager
def programs() -> Iterator[Path]:
    """A folder with `python`, `dvc` and `shipyard`, to be put first on the PATH; they are gone afterwards."""
    with TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            for program in ("python", "dvc", "shipyard"):
                client = Path(folder) / program
                client.write_text(CLIENT.format(python=sys.executable, address=address, program=program))
                client.chmod(0o755)
            yield Path(folder)
        finally:
            server.kill()
            server.communicate()


def serve(address: str) -> None:
    """Answer each connection in a fork of this process."""
    for module in LIBRARIES:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(client)
            client.close()


def answer(client: socket.socket) -> None:
    """Become the program that the client asks for; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, fds, _, _ = socket.recv_fds(client, 4, 3)
    asked = json.loads(client.makefile("rb").read(int.from_bytes(size)))
    for fd, standard in zip(fds, (0, 1, 2), strict=True):
        os.dup2(fd, standard)
        os.close(fd)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.executable = str(Path(asked["self"]).with_name("python"))  # so that what it starts begins at once, too
    os.chdir(asked["cwd"])
    status = 70
    with suppress(BaseException):
        status = become(asked["program"], asked["args"])
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    client.sendall(bytes([status]))
    os._exit(0)


def become(program: str, args: list[str]) -> int:
    """The exit status of `dvc <args>`, `shipyard <args>` or `python -m <module> <args>`."""
    if program == "shipyard":
        args = ["-m", "pipeline", *args]
    try:
        if program == "dvc":
            from dvc.cli import main

            sys.argv = ["dvc", *args]
            return int(main(args))
        assert args[0] == "-m", f"only `python -m` is known here, not {args}"
        sys.path[0] = str(Path.cwd())
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (the end of a program: what Python itself would print)
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
