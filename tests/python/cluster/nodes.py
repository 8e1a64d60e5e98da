"""A cluster of real processes on 127.0.0.1, and a balancer in front of them.

It knows the flags that form a cluster and how its processes are ended; it knows no Temporal API.
"""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

from support import Server, binary, free_port


class Nodes:
    """So many nodes, each with its own directory, log and ports. Others reach a node at the port that it advertises, so that a
    proxy may stand there; without one, it is where the node listens."""

    def __init__(self, count: int, scratch: Path, proxied: bool = False):
        self._scratch, listens = scratch, [free_port() for _ in range(count)]
        self.peer_ports = [(free_port() if proxied else listen, listen) for listen in listens]
        self._join = ",".join(f"127.0.0.1:{advertised}" for advertised, _ in self.peer_ports)
        self.servers = [self.node(f"node-{number + 1}", ports) for number, ports in enumerate(self.peer_ports)]

    def node(self, name: str, ports: tuple[int, int] | None = None, directory: str | None = None) -> Server:
        """A node that is not started yet; without ports of its own it is a new one."""
        server = Server(log=self._scratch / f"{directory or name}.log")
        listen = free_port()
        advertised, listen = ports or (listen, listen)
        server._command = [binary(), "server", "start", "--data-dir", str(self.directory(directory or name)),
                           "--node-name", name, "--listen", server.address, "--peer-listen", f"127.0.0.1:{listen}",
                           "--advertise", f"127.0.0.1:{advertised}", "--join", self._join,
                           "--bootstrap-expect", str(len(self.peer_ports))]
        return server

    def add(self, name: str) -> Server:
        """A further node, started."""
        self.servers.append(self.node(name))
        self.servers[-1].spawn()
        return self.servers[-1]

    def pids(self) -> list[int | None]:
        """The processes that run now."""
        return [server.process.pid if server.process and server.process.poll() is None else None
                for server in self.servers]

    def lose_disk(self, number: int) -> None:
        """What a node that does not run had on its disk is gone."""
        shutil.rmtree(self.directory(f"node-{number + 1}"))

    def directory(self, name: str) -> Path:
        return self._scratch / name

    def start(self, within_s: float = 60.0) -> None:
        """Starts all nodes, in any order, and waits until each serves."""
        for server in reversed(self.servers):
            server.spawn()
        for server in self.servers:
            server.await_ready(within_s)

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def command(self, *words: str, asked: int = 0, within_s: float = 90.0) -> subprocess.CompletedProcess:
        """Runs `mainstay cluster …` against a node."""
        return subprocess.run([binary(), "cluster", *words, "--address", self.servers[asked].address],
                              capture_output=True, text=True, timeout=within_s)

    def status(self, asked: int = 0) -> dict:
        """What a node says of the cluster."""
        asked = self.command("status", "-o", "json", asked=asked, within_s=20)
        if asked.returncode:
            raise RuntimeError(asked.stderr)
        return json.loads(asked.stdout)


class Balancer:
    """Connects each client to a node that takes connections, as a load balancer does; a context manager."""

    def __init__(self, nodes: Nodes):
        self._nodes, self._turn, self._open = nodes, 0, set()
        self.address = ""

    async def __aenter__(self) -> "Balancer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        try:
            there = await self._connect()
            if there:
                await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _connect(self):
        for _ in self._nodes.servers:
            self._turn += 1
            server = self._nodes.servers[self._turn % len(self._nodes.servers)]
            try:
                return await asyncio.open_connection("127.0.0.1", server.port)
            except OSError:
                continue
        return None

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
