"""The judge's notebook: what activities really did, on a disk that no server writes to.

A line is appended and fsynced before its activity goes on, so that a line is there if and only if the attempt ran.
"""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """One attempt of one activity, as the worker got it."""

    workflow_id: str
    run_id: str
    activity_id: str
    attempt: int
    once: bool
    """Whether the activity has maximum_attempts = 1."""


class Ledger:
    """Append-only; safe for many threads, because each line is one write to a file opened with O_APPEND."""

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, attempt: Attempt) -> None:
        """Returns when the line is durable."""
        os.write(self._file, (json.dumps(asdict(attempt)) + "\n").encode())
        os.fsync(self._file)

    def read(self) -> Counter:
        """How often each attempt ran."""
        with open(self.path) as lines:
            return Counter(Attempt(**json.loads(line)) for line in lines)

    def close(self) -> None:
        os.close(self._file)
