"""Starting a worker costs little more than a fork."""

import subprocess
import sys
from pathlib import Path

from pipeline.workers.local import Workers
from pipeline.workers.starting import PRELOADED
from pipeline.workers.tasks import Folders, WorkerSetup

# What takes long to load.
HEAVY = {"PIL", "asyncio", "concurrent", "numpy", "pebble", "pipeline"}


def test_a_worker_begins_with_all_loaded_that_it_needs(tmp_path: Path) -> None:
    code = f"import sys, {', '.join(PRELOADED)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder = str(tmp_path)
    setup = WorkerSetup(10**6, 10, 1_000, Folders((folder,), (folder,)))
    workers = Workers(setup, 1, timeout_s=60)
    try:
        workers.warm_up()
        assert workers._pool is not None
        asked = workers._pool.result().schedule(eval, args=("list(__import__('sys').modules)",))
        loaded_later = set(asked.result()) - set(done.stdout.split())
    finally:
        workers.close()
    names = {name.partition(".")[0] for name in loaded_later}
    assert names.isdisjoint(HEAVY)
