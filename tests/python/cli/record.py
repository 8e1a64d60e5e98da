"""Records what the CLI prints against the server that it brings along: python -m cli.record PATH-OF-TEMPORAL (in tests/python)."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support import free_port  # noqa: E402

from cli.script import run  # noqa: E402

EXPECTED = Path(__file__).with_name("expected.json")


def main() -> None:
    binary, port = sys.argv[1], free_port()
    server = subprocess.Popen(
        [binary, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "never",
         "--dynamic-config-value", "frontend.WorkflowPauseEnabled=true"])
    try:
        answers = asyncio.run(ready(binary, f"127.0.0.1:{port}"))
    finally:
        server.terminate()
        server.wait(30)
    EXPECTED.write_text(json.dumps(answers, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


async def ready(binary: str, address: str) -> dict:
    for _ in range(100):
        process = await asyncio.create_subprocess_exec(
            binary, "operator", "cluster", "health", "--address", address, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if await process.wait() == 0:
            break
        await asyncio.sleep(0.3)
    return await run(binary, address)


if __name__ == "__main__":
    main()
