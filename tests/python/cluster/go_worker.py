"""The Go SDK's worker for the work of `kill/load.py`: a process of its own, built from `tests/go/steps`.

It knows how that is built, started and ended; what it does stands there.
"""

import asyncio
import shutil
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "go"
BUILD_WITHIN_S = 600.0
CONNECTS_WITHIN_S = 30.0
REPLAYS_WITHIN_S = 300.0


def is_possible() -> bool:
    """Whether there is a Go tool chain; without one the Go SDK is not tested at all, and `cargo xtask test` says so."""
    return shutil.which("go") is not None


async def build(scratch: Path) -> Path:
    """Builds the program and returns where it is."""
    program = scratch / "steps"
    building = await asyncio.create_subprocess_exec("go", "build", "-o", str(program), "./steps", cwd=SOURCE)
    if await asyncio.wait_for(building.wait(), BUILD_WITHIN_S):
        raise RuntimeError("the worker of the Go SDK does not build")
    return program


class GoWorker:
    """A worker on a task queue; a context manager. The process ends when its standard input does, so that it cannot outlive this one."""

    def __init__(self, program: Path, address: str, task_queue: str, ledger: Path):
        self._words = [str(program), "work", "-address", address, "-queue", task_queue, "-ledger", str(ledger)]

    async def __aenter__(self) -> "GoWorker":
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        try:
            said = await asyncio.wait_for(self._process.stdout.readline(), CONNECTS_WITHIN_S)
            if said != b"works\n":
                raise RuntimeError(f"the worker of the Go SDK said {said!r}")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_) -> None:
        code = await self._end()
        if code:
            raise RuntimeError(f"the worker of the Go SDK ended with {code}")

    async def _end(self) -> int:
        self._process.stdin.close()
        try:
            return await asyncio.wait_for(self._process.wait(), CONNECTS_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


async def replay(program: Path, address: str, workflow_ids: list[str]) -> list[str]:
    """Replays the histories of these workflows in the Go SDK; returns a sentence for each that does not replay."""
    process = await asyncio.create_subprocess_exec(
        str(program), "replay", "-address", address, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    lines = "".join(f"{workflow_id}\n" for workflow_id in workflow_ids)
    try:
        said, _ = await asyncio.wait_for(process.communicate(lines.encode()), REPLAYS_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return said.decode().splitlines() + ([f"the replayer of the Go SDK ended with {process.returncode}"] if process.returncode else [])
