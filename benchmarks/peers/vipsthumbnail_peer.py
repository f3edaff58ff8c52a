"""`vipsthumbnail` under `xargs -P`: one process per batch of originals, one thread in each.

It takes one size a call. A `fit` box serves for many originals at once; for a `scale` the size
differs from file to file, so each is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BATCH = 25


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["VIPS_CONCURRENCY"] = "1"
    for recipe in job["recipes"]:
        if recipe["fit"] is not None:
            _fit(job, recipe)
        else:
            _one_by_one(job, recipe)


def _fit(job: dict[str, Any], recipe: dict[str, Any]) -> None:
    width, height = recipe["fit"]
    folder = Path(job["output"]) / recipe["name"]
    target = f"{folder}/%s{_suffix(job, recipe['name'])}{_options(recipe, job['encoder'])}"
    command = ["vipsthumbnail", "--size", f"{width}x{height}>", "-o", target]
    paths = [task["path"] for task in job["tasks"]]
    _xargs(job["workers"], ["-n", str(BATCH), *command], paths)


def _one_by_one(job: dict[str, Any], recipe: dict[str, Any]) -> None:
    arguments = []
    for task in job["tasks"]:
        rendition = next(r for r in task["renditions"] if r["recipe"] == recipe["name"])
        size = f"{rendition['width']}x{rendition['height']}!"
        target = rendition["path"] + _options(recipe, job["encoder"])
        arguments += ["--size", size, "-o", target, task["path"]]
    _xargs(job["workers"], ["-n", "5", "vipsthumbnail"], arguments)


def _xargs(workers: int, command: list[str], arguments: list[str]) -> None:
    subprocess.run(
        ["xargs", "-0", "-P", str(workers), *command],
        input="\0".join(arguments).encode(),
        check=True,
    )


def _suffix(job: dict[str, Any], recipe: str) -> str:
    """What follows the bare name of the original in its rendition's name."""
    task = job["tasks"][0]
    rendition = next(r for r in task["renditions"] if r["recipe"] == recipe)
    return Path(rendition["path"]).name.removeprefix(Path(task["path"]).stem)


def _options(recipe: dict[str, Any], encoder: dict[str, Any]) -> str:
    options = [f"Q={recipe['quality']}", "strip"]
    match recipe["format"]:
        case "jpeg":
            options.append(f"optimize_coding={_bool(encoder['jpeg_optimise_huffman'])}")
            options.append(f"interlace={_bool(encoder['jpeg_progressive'])}")
            options.append(f"subsample_mode={_on(encoder['jpeg_subsampling'])}")
        case "webp":
            options.append(f"effort={encoder['webp_method']}")
        case "avif":
            options.append(f"effort={max(0, 9 - encoder['avif_speed'])}")
            options.append(f"subsample_mode={_on(encoder['avif_subsampling'])}")
    return f"[{','.join(options)}]"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _on(subsampling: str) -> str:
    return "on" if subsampling == "4:2:0" else "off"


if __name__ == "__main__":
    main()
