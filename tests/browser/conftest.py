"""One server with its web interface, one worker, one browser for the whole session."""

import urllib.request

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from chromium import Chromium, executable
from shop import ACTIVITIES, QUEUE, WORKFLOWS
from support import Server, free_port


@pytest.fixture(scope="session")
def ui_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def server(tmp_path_factory, ui_port):
    scratch = tmp_path_factory.mktemp("server")
    with Server("--ui-port", str(ui_port), "--search-attribute", "Colour=Keyword", data_dir=scratch / "data",
                log=scratch / "server.log", headless=False) as s:
        yield s


@pytest.fixture(scope="session")
def ui(server, ui_port) -> str:
    """Where the pages are."""
    return f"http://127.0.0.1:{ui_port}"


@pytest.fixture(scope="session")
async def client(server) -> Client:
    return await Client.connect(server.address)


@pytest.fixture(scope="session")
async def worker(client):
    async with Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=ACTIVITIES):
        yield


@pytest.fixture(scope="session")
def browser():
    if not executable():
        pytest.fail("there is no Chromium; on Debian: apt-get install chromium, or set MAINSTAY_CHROMIUM")
    with Chromium() as chromium:
        yield chromium


@pytest.fixture
def page(browser):
    """A tab of its own, which must not have complained in the end."""
    opened = browser.page()
    yield opened
    assert not opened.complaints


@pytest.fixture
def fetch(ui):
    """A page as a program gets it: status, headers and text."""

    def get(path: str, **headers):
        request = urllib.request.Request(ui + path, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read().decode()

    return get
