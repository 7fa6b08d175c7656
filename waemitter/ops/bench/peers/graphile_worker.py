"""graphile-worker, on Node."""

from __future__ import annotations

from functools import partial

from waemitter.ops.bench.peers.node_worker import drain
from waemitter.ops.bench.peers.work import main

if __name__ == "__main__":
    main(partial(drain, "graphile_worker.mjs"))
