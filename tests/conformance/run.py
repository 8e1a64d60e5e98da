#!/usr/bin/env python3
"""Starts the server on a free port, replays recorded areas against it, and prints passed and failed by area.

    tests/venv python tests/conformance/run.py                      the gated areas of areas.toml
    tests/venv python tests/conformance/run.py timer signal         these areas
    tests/venv python tests/conformance/run.py --all
    tests/venv python tests/conformance/run.py --only activity/max_attempts --show
    tests/venv python tests/conformance/run.py --cluster timer signal             against one of three nodes
    tests/venv python tests/conformance/run.py --address 127.0.0.1:7233 timer     a server that already runs

The status is 1 if a scenario differs that areas.toml gates and does not excuse. For whole transcripts use
`python -m conformance run` directly; README.md describes it.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import tomllib
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import grpc

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support import Server, free_port  # noqa: E402 (the line above makes it importable)

SEARCH_ATTRIBUTES = {
    "CustomKeywordField": "Keyword", "CustomTextField": "Text", "CustomIntField": "Int",
    "CustomDatetimeField": "Datetime", "CustomDoubleField": "Double", "CustomBoolField": "Bool",
    "CustomKeywordListField": "KeywordList",
}
"""What the reference server had when it was recorded."""


TIMING = "timing: "
"""Begins the reason of a scenario that differs or not with the speed of the machine; such may pass."""


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("areas", nargs="*", help="areas to run; default: the gated ones")
    p.add_argument("--all", action="store_true", help="every area, walks included")
    p.add_argument("--only", action="append", default=[], metavar="GLOB", help="area/name pattern instead of areas")
    p.add_argument("--address", help="use the server at this address and start none")
    p.add_argument("--http", help="where the server at --address has its HTTP API; without it what needs that is left out")
    p.add_argument("--cluster", action="store_true", help="start three nodes, and ask one of them")
    p.add_argument("--jobs", default="8", help="scenarios in parallel")
    p.add_argument("--retry", default="3", help="how often scenarios that differ are tried again, each alone after all others")
    p.add_argument("--show", action="store_true", help="print the differences of every failed scenario")
    p.add_argument("--json", metavar="FILE", help="keep results and transcripts of failures here")
    p.add_argument("--log", metavar="FILE", help="the server's output; default: stderr")
    return p.parse_args()


def add_search_attributes(address: str) -> None:
    """As an operator does: a node of a cluster has no flag for them."""
    from conformance.proto import message

    kinds = {name: "KEYWORD_LIST" if kind == "KeywordList" else kind.upper() for name, kind in SEARCH_ATTRIBUTES.items()}
    request = message("temporal.api.operatorservice.v1.AddSearchAttributesRequest",
                      namespace="default", search_attributes=kinds)
    with grpc.insecure_channel(address) as channel:
        add = channel.unary_unary("/temporal.api.operatorservice.v1.OperatorService/AddSearchAttributes",
                                  request_serializer=lambda r: r.SerializeToString(), response_deserializer=bytes)
        add(request, timeout=20)


@contextmanager
def cluster(scratch: Path):
    """Three nodes; the areas run against one of them."""
    sys.path.insert(0, str(HERE.parent / "python"))
    from cluster.nodes import Nodes

    nodes = Nodes(3, scratch)
    try:
        nodes.start()
        add_search_attributes(nodes.servers[0].address)
        yield nodes.servers[0]
    finally:
        nodes.kill()


def replay(args: argparse.Namespace, areas: list[str], rules: dict, address: str, http: str | None, report: Path) -> list[dict]:
    """Runs the suite as the child process it is; its results come back as JSON."""
    report.unlink(missing_ok=True)
    patterns = args.only or [f"{area}/*" for area in areas]
    command = [sys.executable, "-m", "conformance", "run", "--address", address, "--jobs", args.jobs,
               "--retry", args.retry, "--differs", ",".join(rules.get("differs", {})), "--without", ",".join(rules["without"]),
               "--absent", ",".join(rules["absent"]), "--json", str(report)]
    if http:
        command += ["--http", http]
    for pattern in patterns:
        command += ["--only", pattern]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    if args.show or done.returncode not in (0, 1) or not report.exists():
        print(done.stdout)
    if not report.exists():
        raise SystemExit(f"the suite ended with {done.returncode} and without results")
    return json.loads(report.read_text())


def judge(results: list[dict], gated: list[str], differs: dict[str, str]) -> int:
    """Prints the table and what is wrong; returns the exit status."""
    table: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    wrong = []
    for r in results:
        area = r["scenario"].split("/")[0]
        excused = r["scenario"] in differs
        table[area]["passed" if r["passed"] else "excused" if excused else "failed"] += 1
        if r["passed"] and excused and not differs[r["scenario"]].startswith(TIMING):
            wrong.append(f"{r['scenario']}: passes now; strike it from areas.toml")
        elif not r["passed"] and not excused and area in gated:
            wrong.append(f"{r['scenario']}: {r['stopped'] or 'differs'}")
    print(f"{'area':18}{'passed':>8}{'failed':>8}{'excused':>9}")
    for area, row in sorted(table.items()):
        print(f"{area:18}{row['passed']:8}{row['failed']:8}{row['excused']:9}{'' if area in gated else '  (not gated)'}")
    alone = [f"{r['scenario']} (try {r['tries']})" for r in results if r["passed"] and r["tries"] > 1]
    total = sum(table.values(), collections.Counter())
    print(f"{'':18}{total['passed']:8}{total['failed']:8}{total['excused']:9}")
    if alone:
        print("passed alone, not among the others: " + ", ".join(alone))
    for line in wrong:
        print("FAIL " + line)
    return 1 if wrong else 0


def main() -> int:
    args = arguments()
    rules = tomllib.loads((HERE / "areas.toml").read_text())
    areas = args.areas or (["*"] if args.all else rules["gated"])
    flags = [word for name, kind in SEARCH_ATTRIBUTES.items() for word in ("--search-attribute", f"{name}={kind}")]
    elsewhere = args.address or args.cluster
    http = args.http if elsewhere else f"127.0.0.1:{free_port()}"
    if http and not elsewhere:
        flags += ["--http-port", http.rpartition(":")[2]]
    with tempfile.TemporaryDirectory(prefix="mainstay-conformance-") as scratch:
        server = (nullcontext(SimpleNamespace(address=args.address)) if args.address
                  else cluster(Path(scratch)) if args.cluster
                  else Server(*flags, data_dir=Path(scratch) / "data", log=args.log))
        with server as s:
            report = Path(args.json).resolve() if args.json else Path(scratch) / "report.json"
            results = replay(args, areas, rules, s.address, http, report)
    return judge(results, rules["gated"], rules.get("differs", {}))


if __name__ == "__main__":
    sys.exit(main())
