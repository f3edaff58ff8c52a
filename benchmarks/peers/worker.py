"""What the peers written in Python share: reading the job, Pillow's options, a pool."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Task = dict[str, Any]


def read_job() -> tuple[list[Task], int]:
    """The tasks of the job named on the command line, and how many workers it may use."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tasks = job["tasks"]
    for task in tasks:
        task["encoder"] = job["encoder"]
    return tasks, job["workers"]


def in_processes(render: Callable[[Task], None]) -> None:
    """Render every task of the job in as many processes as it allows."""
    tasks, workers = read_job()
    if workers == 1:
        for task in tasks:
            render(task)
        return
    # The chunks are small enough that no worker idles at the end, large enough to cost nothing.
    chunk = max(1, min(16, len(tasks) // (workers * 16)))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(render, tasks, chunksize=chunk):
            pass


def save_options(rendition: dict[str, Any], encoder: dict[str, Any]) -> dict[str, Any]:
    """Pillow's keyword arguments for one rendition."""
    quality = rendition["quality"]
    match rendition["format"]:
        case "jpeg":
            return {
                "format": "JPEG",
                "quality": quality,
                "subsampling": encoder["jpeg_subsampling"],
                "optimize": encoder["jpeg_optimise_huffman"],
                "progressive": encoder["jpeg_progressive"],
            }
        case "webp":
            return {"format": "WEBP", "quality": quality, "method": encoder["webp_method"]}
        case "avif":
            return {
                "format": "AVIF",
                "quality": quality,
                "speed": encoder["avif_speed"],
                "subsampling": encoder["avif_subsampling"],
                "codec": "aom",
                "max_threads": 1,
            }
    raise ValueError(f"no options for the format {rendition['format']!r}")
