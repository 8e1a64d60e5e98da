"""What is done to the nodes of a cluster while it works: each fault is a coroutine that ends when the node serves again."""

import asyncio
import random
import signal
import time

from .cutting import Proxies
from .nodes import Nodes

BEGAN = time.monotonic()
SERVES_WITHIN_S = 60.0


def say(text: str) -> None:
    print(f"  {time.monotonic() - BEGAN:6.1f}: {text}", flush=True)


class Faults:
    """For one cluster. Members are those that were not replaced."""

    def __init__(self, nodes: Nodes, proxies: Proxies, rng: random.Random):
        self._nodes, self._proxies, self._rng = nodes, proxies, rng
        self.members = list(range(len(nodes.servers)))
        self.done: list[str] = []

    def any(self) -> int:
        return self._rng.choice(self.members)

    async def kill(self, number: int | None = None, wiped: bool = False) -> None:
        """SIGKILL; back after a while, with its disk or without."""
        number = self.any() if number is None else number
        server = self._nodes.servers[number]
        server.kill()
        self._say(f"node-{number + 1} is killed{' and its disk lost' if wiped else ''}")
        await asyncio.sleep(self._rng.uniform(0.5, 3.0))
        if wiped:
            self._nodes.lose_disk(number)
        server.spawn()
        await asyncio.to_thread(server.await_ready, SERVES_WITHIN_S)
        if wiped:
            # Until it votes again another loss would be one too many.
            await self.settled()

    async def wipe(self) -> None:
        await self.settled()
        await self.kill(wiped=True)

    async def pause(self, for_s: float = 10.0) -> None:
        """SIGSTOP: alive for the kernel, silent for the others."""
        number = self.any()
        process = self._nodes.servers[number].process
        process.send_signal(signal.SIGSTOP)
        self._say(f"node-{number + 1} is paused for {for_s} s")
        await asyncio.sleep(for_s)
        process.send_signal(signal.SIGCONT)

    async def cut(self, for_s: float = 10.0) -> None:
        """No other node hears it, nor it them; clients do."""
        number = self.any()
        self._proxies.cut(number)
        self._say(f"node-{number + 1} is cut off for {for_s} s")
        await asyncio.sleep(for_s)
        self._proxies.heal()

    async def replace(self) -> None:
        """A new node takes the place of another, which ends."""
        await self.settled()
        number, name = self.any(), f"node-{len(self._nodes.servers) + 1}"
        new = await asyncio.to_thread(self._nodes.add, name)
        await asyncio.to_thread(new.await_ready, SERVES_WITHIN_S)
        asked = next(member for member in self.members if member != number)
        for words in (["add", name], ["replace", f"node-{number + 1}", "--by", name]):
            self._say(" ".join(words))
            answer = await asyncio.to_thread(lambda: self._nodes.command(*words, asked=asked))
            if answer.returncode:
                raise RuntimeError(f"{words}: {answer.stdout}{answer.stderr}")
        self.members.remove(number)
        self.members.append(len(self._nodes.servers) - 1)
        await asyncio.to_thread(self._nodes.servers[number].process.wait, SERVES_WITHIN_S)

    async def roll(self) -> None:
        """Each node is stopped and started, one after the other."""
        for number in self.members:
            await self.settled()
            self._say(f"node-{number + 1} is restarted")
            server = self._nodes.servers[number]
            await asyncio.to_thread(server.stop)
            server.spawn()
            await asyncio.to_thread(server.await_ready, SERVES_WITHIN_S)

    async def settled(self, within_s: float = 90.0) -> None:
        """Returns when all members serve, every group has its leader, and no voter is missing."""
        began, status = time.monotonic(), None
        while time.monotonic() - began < within_s:
            await asyncio.sleep(0.3)
            try:
                status = await asyncio.to_thread(self._nodes.status, self.members[0])
            except Exception:  # the asked node may be the one that is down
                continue
            nodes = [node for node in status["nodes"] if node["state"] == "serves"]
            votes = [sum(group["voter"] for group in node["groups"]) for node in nodes]
            led = sum(group["leads"] for node in nodes for group in node["groups"])
            if len(nodes) == len(self.members) and len(set(votes)) == 1 and votes[0] == led > 0:
                return
        raise RuntimeError(f"the cluster does not settle: {status}")

    def _say(self, text: str) -> None:
        self.done.append(text)
        say(text)
