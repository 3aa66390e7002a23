"""A server that has imported the libraries already, so that a stage starts in milliseconds instead of seconds.

`dvc repro` starts `python -m stages.<name>` for every stage, and `import torch` alone takes three seconds. This module
puts `python`, `dvc` and `shipyard` on the PATH: small clients of one server, which forks for each of them. The server
imports none of the project's modules: each fork imports those of the repository that it runs in.
"""

from __future__ import annotations

import gc
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
    "PIL.Image",
    "dvc.cli.parser",
    "dvc.commands.status",
    "dvc.repo.reproduce",
    "h5py",
    "huggingface_hub",
    "jinja2",
    "open_clip",  # with torch._dynamo, which every optimizer imports when its first step begins
    "pyarrow.parquet",
    "pydantic",
    "rich.progress",
    "ruamel.yaml",
    "safetensors.torch",
    "sklearn.linear_model",
    "torch",
    "typer",
    "vl_convert",
    "zarr",
)
INTERNAL_ERROR = 70  # EX_SOFTWARE: the server ended before it reported a status
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = {{"program": {program!r}, "args": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
request = json.dumps({{**request, "self": __file__}}).encode()
socket.send_fds(server, [len(request).to_bytes(4)], [0, 1, 2])
server.sendall(request)
sys.exit(int.from_bytes(server.recv(1) or bytes([{internal_error}])))
"""


@contextmanager
def programs() -> Iterator[Path]:
    """Start the server and yield a folder with `python`, `dvc` and `shipyard` for the PATH; both go away afterwards."""
    with TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"

            for program in ("python", "dvc", "shipyard"):
                client = Path(folder) / program
                source = CLIENT.format(
                    python=sys.executable, address=address, program=program, internal_error=INTERNAL_ERROR
                )
                client.write_text(source, encoding="utf-8")
                client.chmod(0o755)

            yield Path(folder)
        finally:
            server.kill()
            server.communicate()


def serve(address: str) -> None:
    """Answer each connection in a fork of this process."""
    for module in LIBRARIES:
        importlib.import_module(module)
    gc.freeze()  # a collection in a fork would touch, and so copy, every page of these libraries

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)

        # Waiting for the forks also adds their CPU time to that of the server, and so to what `time pytest` reports.
        signal.signal(signal.SIGCHLD, reap)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(client)
            client.close()


def reap(*_: object) -> None:
    """Wait for all forks that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def answer(client: socket.socket) -> None:
    """Become the program that the client asks for; this never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, fds, _, _ = socket.recv_fds(client, 4, 3)
    request = json.loads(client.makefile("rb").read(int.from_bytes(size)))

    for fd, standard in zip(fds, (0, 1, 2), strict=True):
        os.dup2(fd, standard)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.executable = str(Path(request["self"]).with_name("python"))  # so that its children start quickly, too
    os.chdir(request["cwd"])

    status = INTERNAL_ERROR
    with suppress(BaseException):
        status = become(request["program"], request["args"])
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    client.sendall(bytes([status]))
    os._exit(0)


def become(program: str, args: list[str]) -> int:
    """Run `dvc <args>`, `shipyard <args>` or `python -m <module> <args>`, and return its exit status."""
    if program == "shipyard":
        args = ["-m", "pipeline", *args]

    try:
        if program == "dvc":
            from dvc.cli import main

            sys.argv = ["dvc", *args]
            return int(main(args))

        assert args[0] == "-m", f"expected `python -m <module>`, not {args}"
        sys.path[0] = str(Path.cwd())
        if args[1] == "pipeline.executor.cells":
            # A run forks its stages from a server of its own, which takes seconds to start; this one has started.
            importlib.import_module("pipeline.executor.stage_process").PRELOADED = []
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (print the traceback that Python itself would print)
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
