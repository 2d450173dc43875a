"""A process that has loaded Amends and forks: what is started from it is a process of its own, and need not load first.

Loading takes a second, and the pages have hundreds of commands. A command from here differs from one that a shell
starts in nothing else: its own arguments, folder, environment, streams and exit code, which `borrowed.py` hands over.
Started by `client`, and ends with the tests.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST_ASKED = 1 << 20
"""Bytes of what a client may say: its arguments and its environment."""


@cache
def client() -> tuple[str, ...]:
    """The words that, followed by those of `amends`, run it; an `--at=MOMENT` before them is what its clock shows."""
    folder = Path(tempfile.mkdtemp(prefix="amends-zygote-"))
    address = folder / "socket"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # It ends when our end of the pipe is closed, which the kernel does however we end.
    process = subprocess.Popen(
        (sys.executable, "-m", __name__, str(address)), cwd=folder, env=environment, stdin=subprocess.PIPE
    )

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    atexit.register(end)
    give_up = time.monotonic() + 60
    while not address.exists():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("the process that commands are started from did not come up; its words are above")
        time.sleep(0.02)
    # Without site-packages: whoever only hands over streams need not load anything.
    return (sys.executable, "-S", "-E", str(Path(__file__).with_name("borrowed.py")), str(address))


def serve(address: str) -> None:
    """Load Amends once, then fork for each client, until whoever started this is gone; its folder goes with it."""
    import orchestrator.cli.app  # noqa: F401 - loaded here, so that no command has to

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # A Ctrl-C at a terminal is meant for whoever started us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    # Under another name first: who finds the address finds somebody listening.
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
        connection.close()
    listener.close()
    shutil.rmtree(Path(address).parent)


def _attend(connection: socket.socket) -> None:
    """Run one client's command in a child, and tell the client how it ended; it ends with the client."""
    said, streams, _, _ = socket.recv_fds(connection, MOST_ASKED, 3)
    while not said.endswith(b"\n"):
        said += connection.recv(MOST_ASKED)
    asked = json.loads(said)
    command = os.fork()
    if command == 0:
        connection.close()
        _become(asked, streams)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(command)
    if ended not in select.select([ended, connection.fileno()], [], [])[0]:
        os.kill(command, signal.SIGKILL)
    _, status = os.waitpid(command, 0)
    # The client may be gone.
    with suppress(BrokenPipeError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.path.insert(0, "")
    sys.argv = ["amends", *asked["words"]]
    code = 1
    try:
        if asked["at"]:
            _stop_the_clock(datetime.fromisoformat(asked["at"]))
        from orchestrator.cli import script

        script()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 - the interpreter's last resort, which this stands for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stop_the_clock(moment: datetime) -> None:
    from messaging.clock import SystemClock

    # Commands are programs: nobody can hand them a clock from outside.
    setattr(SystemClock, "now", lambda _: moment)  # noqa: B010 - mypy refuses to assign a method


if __name__ == "__main__":
    serve(sys.argv[1])
