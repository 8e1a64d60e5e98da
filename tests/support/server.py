"""One real server process on 127.0.0.1.

It knows where cargo puts the binary, which flags start a quiet server, and how a process is ended and awaited by its own
pid. It knows no Temporal API: ready means that the port answers HTTP/2.
"""

import atexit
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc

READY_WITHIN_S = 5.0
"""SDKs give a dev server five seconds; so do the tests."""

STOP_WITHIN_S = 10.0
"""How long a server may take to end after SIGTERM."""


def binary() -> str:
    """The server's binary: MAINSTAY_BIN, or cargo's debug build in the cache that `cargo xtask` uses."""
    chosen = os.environ.get("MAINSTAY_BIN")
    if not chosen:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        target = Path(os.environ.get("CARGO_TARGET_DIR") or cache / "mainstay" / "target")
        chosen = target / "debug" / "mainstay"
    if not os.access(chosen, os.X_OK):
        raise SystemExit(f"no server binary at {chosen}: build it (`cargo build -p mainstay-server`) or set MAINSTAY_BIN")
    return str(chosen)


PORTS = range(12_000, 27_000)
"""Below those that the system gives to clients: such a port could be taken between the look at it and the server's start."""

_claimed = itertools.count(os.getpid() * 61)


def free_port() -> int:
    """A port that nobody listens on now, and that no other caller in this process is told. Processes begin at different places."""
    while True:
        port = PORTS[next(_claimed) % len(PORTS)]
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    """A `mainstay server start-dev` process; also a context manager that stops it.

    `data_dir` None keeps the state in memory or a directory of the server's own choice. `log` is a file that collects
    the output of all lives of this server; None passes it through to stderr.
    """

    def __init__(self, *flags: str, data_dir: str | Path | None = None, port: int | None = None,
                 log: str | Path | None = None, level: str = "warn", headless: bool = True):
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = log
        self.process: subprocess.Popen | None = None
        self._command = [binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port),
                         "--log-level", level, *(["--headless"] if headless else []), *flags]
        if data_dir is not None:
            self._command += ["--db-filename", str(data_dir)]

    def spawn(self) -> None:
        """Starts the process and does not wait for it."""
        out = open(self.log, "ab") if self.log else sys.stderr.fileno()
        try:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        finally:
            if self.log:
                out.close()
        atexit.register(self.kill)

    def start(self, within_s: float = READY_WITHIN_S) -> "Server":
        """Starts the process and waits until it answers."""
        self.spawn()
        self.await_ready(within_s)
        return self

    def await_ready(self, within_s: float = READY_WITHIN_S) -> float:
        """Waits until the server answers; returns the seconds it took. Fails at once if the process ended."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode} at its start{self._tail()}")
            with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                try:
                    grpc.channel_ready_future(channel).result(timeout=0.2)
                    return time.monotonic() - began
                except grpc.FutureTimeoutError:
                    pass
        self.kill()
        raise RuntimeError(f"the server was not ready within {within_s} s{self._tail()}")

    def kill(self) -> None:
        """SIGKILL, as a crash does it, and waits for the end."""
        atexit.unregister(self.kill)
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM and a bounded wait; returns the exit status. A server that does not end in time is killed and an error."""
        atexit.unregister(self.kill)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"the server did not end within {STOP_WITHIN_S} s of SIGTERM{self._tail()}") from None
        return self.process.returncode

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def _tail(self) -> str:
        if not self.log or not Path(self.log).exists():
            return ""
        lines = Path(self.log).read_text(errors="replace").splitlines()[-20:]
        return "; its last lines:\n  " + "\n  ".join(lines)
