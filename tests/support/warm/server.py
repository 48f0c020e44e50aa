"""Start Python processes that have TensorFlow, DVC and the other libraries loaded: forks of one that has.

A folder of its own holds `python` and `dvc`, which tests put first on PATH. For the commands of this project they ask
this server for a process with their arguments, variables, working folder and open files, and end as it ends; so does
pytest-xdist for its workers. Whatever else they are asked for, they are the real ones; so they are where a variable is
set that libraries read while they are loaded. No module of ours is loaded here: each process imports the code of its
working folder.
"""

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

LOADED = (
    "tensorflow", "keras", "h5py", "numpy", "pandas", "scipy.stats", "sklearn.metrics", "sklearn.model_selection",
    "matplotlib.figure", "matplotlib.backends.backend_svg", "PIL.Image", "markdown_it", "jsonschema", "ruamel.yaml",
    "requests", "tqdm", "dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.experiments", "dvc.repo.metrics.diff",
    "dvc.repo.params.diff", "dvc.repo.plots", "hydra", "hydra.core.override_parser",
)  # fmt: skip
# What libraries read while they are loaded: with another value, the real program starts.
READ_EARLY = ("HOME", "LANG", "LC_", "TZ", "PYTHON", "TF_", "ONEDNN", "DNNL", "KERAS", "OMP_", "XLA")
# What reprocnn/backend.py sets for its own programs, and TensorFlow reads while it is loaded.
VARIABLES = {"KERAS_BACKEND": "tensorflow", "TF_CPU_ALLOCATOR_USE_BFC": "true", "TF_ENABLE_ONEDNN_OPTS": "1"}
MOUNTS = 0x00020000  # CLONE_NEWNS
ROOT = str(Path(__file__).parents[3])
OPENED = str(Path(ROOT, "tests/support/opened"))  # the one folder whose sitecustomize.py runs here too

SHIM = """\
#!{python} -IS
import array, json, os, socket, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
early = {{key: value for key, value in os.environ.items() if key.startswith({read_early!r})}}
if early.get("PYTHONPATH") in ({root!r}, {opened!r}):
    del early["PYTHONPATH"]
ours = name == "dvc" or (arguments[:1] == ["-m"] and arguments[1].partition(".")[0] in ("dvc", "stages", "reprocnn"))
ours = ours or arguments[:2] == ["-u", "-c"]  # a worker of pytest-xdist
if not (ours and os.environ.get("WARM") and early == {early!r}):
    os.execv(os.path.join({folder!r}, name), [os.path.join({folder!r}, name), *arguments])
umask = os.umask(0)
os.umask(umask)
here = {{"folder": os.getcwd(), "umask": umask, "pid": os.getpid()}}
text = json.dumps({{"arguments": sys.argv, "variables": dict(os.environ), **here}}).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["WARM"])
    files = array.array("i", [0, 1, 2])
    server.sendmsg([len(text).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    server.sendall(text)
    code = int(server.recv(10) or b"-9")
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def write_programs(folder: Path) -> None:
    """Write `python` and `dvc` into `folder`."""
    folder.mkdir()
    early = {key: value for key, value in os.environ.items() if key.startswith(READ_EARLY)}
    if early.get("PYTHONPATH") == ROOT:
        del early["PYTHONPATH"]
    text = SHIM.format(
        python=sys.executable, read_early=READ_EARLY, early=early, root=ROOT, opened=OPENED,
        folder=str(Path(sys.executable).parent),
    )  # fmt: skip
    for name in ("python", "dvc"):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


def start(folder: Path) -> subprocess.Popen[str]:
    """Start the server with its programs in `folder`/bin, and set WARM for the commands of the tests."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    write_programs(folder / "bin")
    address = str(folder / "socket")
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    os.environ["WARM"] = address
    return server


def serve(address: str) -> None:
    """Fork a process for each connection, until stdin ends. A process whose asker is gone is killed.

    The libraries are loaded when the first one comes.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    print("ready", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    waiting.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listening:
                connection, _ = listening.accept()
                _load()
                pid = _start(connection, [listening])
                waiting.register(connection, selectors.EVENT_READ, pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
            elif isinstance(key.fileobj, socket.socket):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.data, signal.SIGKILL)
                waiting.unregister(key.fileobj)
            else:
                pid, connection = key.data
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                with contextlib.suppress(KeyError):
                    waiting.unregister(connection)
                connection.close()


def _load() -> None:
    if "dvc.cli" in sys.modules:
        return
    # TensorFlow's libraries write to stderr before they can be kept from it.
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    for name in LOADED:
        importlib.import_module(name)
    os.dup2(stderr, 2)
    os.close(stderr)
    gc.freeze()


def _start(connection: socket.socket, others: list[socket.socket]) -> int:
    size, files, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    opened = array.array("i")
    opened.frombytes(files[0][2])
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        for one in [connection, *others]:
            one.close()
        _become(json.loads(text), opened)
    for number in opened:
        os.close(number)
    return pid


def _become(asked: dict[str, Any], opened: array.array) -> None:
    """Be the process that was asked for, to its end."""
    code: Any = 1
    try:
        for target, number in enumerate(opened):
            os.dup2(number, target)
            os.close(number)
        mounts = f"/proc/{asked['pid']}/ns/mnt"
        if os.stat(mounts).st_ino != os.stat("/proc/self/ns/mnt").st_ino:
            with open(mounts) as file:
                ctypes.CDLL(None).setns(file.fileno(), MOUNTS)
        os.environ.clear()
        os.environ.update(asked["variables"])
        os.umask(asked["umask"])
        os.chdir(asked["folder"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _run(asked["arguments"], asked["folder"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        if isinstance(code, str):
            print(code, file=sys.stderr)
        with contextlib.suppress(BaseException):
            threading._shutdown()
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1 if code else 0)


def _run(arguments: list[str], folder: str) -> Any:
    if arguments[1:2] == ["-u"]:
        exec(arguments[3], {"__name__": "__main__"})
        return 0
    sys.executable = str(Path(arguments[0]).with_name("python"))  # what it starts in turn is forked too
    if os.path.basename(arguments[0]) == "dvc":
        from dvc.cli import main

        sys.argv = arguments
        return main(arguments[1:])
    path = os.environ.get("PYTHONPATH")
    sys.path[:0] = [folder, *filter(None, [path])]
    if path == OPENED:
        runpy.run_path(f"{OPENED}/sitecustomize.py")
    sys.argv = [arguments[0], *arguments[3:]]
    runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
