"""How long it takes to rebuild a node that lost its disk, and what clients see meanwhile.

    MAINSTAY_BIN=… tests/venv python tests/python/cluster/rebuild.py [MEBIBYTES]

Three nodes are filled by `mainstay bench` until each holds so many mebibytes. Then one is killed (SIGKILL), its disk emptied, and it is
started again under its name. It is rebuilt when every group has it as a voter and no voter is missing. Meanwhile small workflows run,
and their latencies are told, before and during.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cluster.nodes import Nodes
from support import binary

PAYLOAD = 32 * 1024
"""Bytes that each activity gets and returns: histories are what fills the disk."""
FILL_S = 20
WITHIN_S = 600.0


def held(nodes: Nodes, number: int) -> float:
    """Mebibytes in a node's directory, its log included."""
    files = nodes.directory(f"node-{number + 1}").rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / (1 << 20)


def bench(address: str, *words: str) -> subprocess.Popen:
    command = [binary(), "bench", "--address", address, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def latencies(process: subprocess.Popen) -> str:
    said, _ = process.communicate()
    found = json.loads(said.strip().splitlines()[-1])
    return (f"{found['per_second']:.0f} workflows/s, p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms, "
            f"max {found['max_ms']:.0f} ms, {found['errors']} errors, {found['wrong']} wrong")


def is_whole(nodes: Nodes) -> bool:
    """Whether every node serves and votes in every group."""
    try:
        serving = [node for node in nodes.status()["nodes"] if node["state"] == "serves"]
    except RuntimeError:
        return False
    votes = [sum(group["voter"] for group in node["groups"]) for node in serving]
    led = sum(group["leads"] for node in serving for group in node["groups"])
    return len(serving) == 3 and len(set(votes)) == 1 and votes[0] == led > 0


def measure(mebibytes: float, scratch: Path) -> None:
    nodes = Nodes(3, scratch)
    try:
        nodes.start()
        first = nodes.servers[0].address
        while (holds := held(nodes, 2)) < mebibytes:
            print(f"  filling: {holds:.0f} MiB", flush=True)
            bench(first, "--payload", str(PAYLOAD), "--duration", str(FILL_S), "--clients", "32").communicate()
        print(f"each node holds {held(nodes, 2):.0f} MiB", flush=True)
        print(f"before:     {latencies(bench(first, '--clients', '4', '--duration', '10'))}", flush=True)
        nodes.servers[2].kill()
        nodes.lose_disk(2)
        lost = time.monotonic()
        nodes.servers[2].spawn()
        load = bench(first, "--clients", "4", "--duration", "20", "--warmup", "0")
        while not is_whole(nodes):
            if time.monotonic() - lost > WITHIN_S:
                raise RuntimeError(f"not rebuilt after {WITHIN_S} s: {nodes.status()}")
            time.sleep(0.2)
        took = time.monotonic() - lost
        print(f"rebuilt in  {took:.1f} s: the node holds {held(nodes, 2):.0f} MiB, "
              f"{held(nodes, 2) / took:.0f} MiB/s")
        print(f"meanwhile:  {latencies(load)}")
    finally:
        nodes.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        measure(float(sys.argv[1]) if len(sys.argv) > 1 else 1024.0, Path(directory))
