"""A killed node's shards serve again within two seconds. A short form of `failover.py`, which prints the distribution of many kills."""

import os

from . import failover

KILLS = int(os.environ.get("MAINSTAY_CLUSTER_KILLS", 4))
LIMIT_S = 4.0
"""What is asked is 2 s at the 99th percentile on a machine that does nothing else; CI machines do other things."""


async def test_shards_serve_again_soon(tmp_path):
    awake, asleep = await failover.measure(KILLS, tmp_path)
    print("\n" + failover.report(awake, asleep))
    assert max(awake.whole + asleep.whole) < LIMIT_S
