"""One server for the whole session, one task queue for each test.

Workflows that a test module itself defines are not sandboxed: the sandbox would import the module once more, through pytest's
rewriting of assertions, at which Python 3.11 now and then fails ("AST constructor recursion depth mismatch").
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from support import Server
from workflows import ACTIVITIES, WORKFLOWS


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("server")
    with Server("--search-attribute", "CustomKeywordField=Keyword", data_dir=scratch / "data",
                log=scratch / "server.log") as s:
        yield s


@pytest.fixture(scope="session")
async def client(server) -> Client:
    return await Client.connect(server.address)


@pytest.fixture
def task_queue(request) -> str:
    return f"{request.node.name}-{uuid.uuid4()}"


@pytest.fixture
def workflow_id(task_queue) -> str:
    """One workflow id for each test; tests that need more add to it."""
    return f"wf-{task_queue}"


@asynccontextmanager
async def a_worker(client: Client, task_queue: str, workflows=None, activities=None, **options):
    """Runs a worker while the block runs."""
    with ThreadPoolExecutor(8) as threads:
        async with Worker(client, task_queue=task_queue, workflows=WORKFLOWS if workflows is None else workflows,
                          activities=ACTIVITIES if activities is None else activities, activity_executor=threads, **options):
            yield


@pytest.fixture
async def worker(client, task_queue):
    async with a_worker(client, task_queue):
        yield
