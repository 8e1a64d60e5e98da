"""`mainstay query`: lists, counts and exports of a running server's workflows, and what it says when something is wrong."""

import csv
import io
import json
import subprocess
import uuid

import pytest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from support import binary, free_port

CUSTOM = SearchAttributeKey.for_keyword("CustomKeywordField")


def query(*arguments: str, address: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), "query", "--address", address, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
async def queue(client: Client) -> str:
    """Five workflows of a task queue of their own that nobody polls: three of one type, two of another."""
    queue = f"query-{uuid.uuid4()}"
    for number, kind in enumerate(["Apple", "Apple", "Apple", "Pear", "Pear"]):
        attributes = TypedSearchAttributes([SearchAttributePair(CUSTOM, f"value {number}, \"quoted\"")])
        await client.start_workflow(kind, id=f"{queue}-{number}", task_queue=queue, search_attributes=attributes)
    return queue


async def test_a_table_by_default(server, queue):
    done = query(f"TaskQueue = '{queue}'", address=server.address)
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert "workflow id" in lines[0] and "status" in lines[0]
    assert len(lines) == 6 and all(queue in line and "Running" in line for line in lines[1:])


async def test_json_lines(server, queue):
    done = query(f"TaskQueue = '{queue}'", "--export", "jsonl", address=server.address)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["workflowId"] for row in rows} == {f"{queue}-{n}" for n in range(5)}
    assert all(row["status"] == "Running" and row["startTime"].endswith("Z") and "closeTime" not in row for row in rows)
    assert {row["searchAttributes"]["CustomKeywordField"] for row in rows} == {f"value {n}, \"quoted\"" for n in range(5)}


async def test_csv(server, queue):
    done = subprocess.run([binary(), "query", "--address", server.address, f"TaskQueue = '{queue}'", "--export", "csv"],
                          capture_output=True, timeout=60)
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert len(rows) == 5 and {row["type"] for row in rows} == {"Apple", "Pear"}
    assert json.loads(rows[0]["searchAttributes"])["CustomKeywordField"].startswith("value ")


async def test_a_limit(server, queue):
    done = query(f"TaskQueue = '{queue}'", "--limit", "2", "--export", "jsonl", address=server.address)
    assert len(done.stdout.splitlines()) == 2


async def test_counts(server, queue):
    assert query(f"TaskQueue = '{queue}'", "--count", address=server.address).stdout == "5\n"
    grouped = query(f"TaskQueue = '{queue}'", "--group-by", "ExecutionStatus", "--export", "jsonl", address=server.address)
    assert [json.loads(line) for line in grouped.stdout.splitlines()] == [{"group": "Running", "count": 5}]


async def test_the_plan_is_shown(server, queue):
    done = query(f"TaskQueue = '{queue}'", "--explain", address=server.address)
    assert done.returncode == 0
    listed, counted = done.stdout.splitlines()
    assert listed.startswith("list:") and counted.startswith("count:") and len(listed) > len("list:  ")


async def test_a_wrong_query_is_pointed_at(server):
    done = query("WorkflowId = 'a' xor RunId = 'b'", address=server.address)
    assert done.returncode == 2 and not done.stdout
    message, shown, caret = done.stderr.splitlines()[-3:]
    assert "syntax error at position" in message
    assert shown[caret.index("^"):caret.rindex("^") + 1] == "xor"


async def test_exit_codes(server):
    assert query("NoSuchAttribute = 1", address=server.address).returncode == 2
    assert query("", "--namespace", "no-such-namespace", address=server.address).returncode == 5
    assert query("", address=f"127.0.0.1:{free_port()}").returncode == 3
    assert query("--no-such-flag", address=server.address).returncode == 2


async def test_a_reader_that_has_seen_enough_is_no_error(server, queue):
    command = f"{binary()} query --address {server.address} --export jsonl | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and not done.stderr
