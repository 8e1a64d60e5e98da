"""A proxy in front of each node's port for other nodes, which can cut a node off: nothing reaches it and nothing leaves it.

A cut holds bytes back and lets them pass later, as a network does that drops packets for a while: connections stay open, and say nothing.
Who opened a connection is read from the kernel's tables, since on loopback all look alike. It knows nothing of the protocol inside.
"""

import asyncio
import os


def owner(port: int, pids: list[int | None]) -> int | None:
    """Which of these processes has a socket with this local port."""
    inode = None
    with open("/proc/net/tcp") as table:
        for row in table.readlines()[1:]:
            fields = row.split()
            if int(fields[1].rsplit(":", 1)[1], 16) == port and fields[3] == "01":
                inode = fields[9]
    for number, pid in enumerate(pids):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd") if pid and inode else ():
                try:
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                        return number
                except OSError:
                    continue
        except OSError:
            continue
    return None


class Proxies:
    """One for each node; a context manager."""

    def __init__(self, ports: list[tuple[int, int]], pids):
        """`ports`: where each proxy listens, and where its node does; `pids` tells the nodes' processes."""
        self._ports, self._pids = ports, pids
        self._cut: set[int] = set()
        self._healed = asyncio.Event()
        self._healed.set()
        self._open: set[asyncio.Task] = set()
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> "Proxies":
        for number, (listens, _) in enumerate(self._ports):
            serve = lambda reader, writer, number=number: self._serve(number, reader, writer)
            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", listens))
        return self

    async def __aexit__(self, *_) -> None:
        self.heal()
        for server in self._servers:
            server.close()
        for task in self._open:
            task.cancel()

    def cut(self, number: int) -> None:
        self._cut.add(number)
        self._healed.clear()

    def heal(self) -> None:
        self._cut.clear()
        self._healed.set()

    async def _serve(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        source = owner(writer.get_extra_info("peername")[1], self._pids())
        ends = {source, target}
        there = None
        try:
            await self._passes(ends)
            there = await asyncio.open_connection("127.0.0.1", self._ports[target][1])
            await asyncio.gather(self._pump(reader, there[1], ends), self._pump(there[0], writer, ends))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            if there:
                there[1].close()

    async def _passes(self, ends: set) -> None:
        while self._cut & ends:
            await self._healed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self._passes(ends)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
