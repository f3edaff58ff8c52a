"""pyvips: `Image.thumbnail` (shrink on load, Lanczos), one thread in each process."""

from __future__ import annotations

import os

os.environ["VIPS_CONCURRENCY"] = "1"  # read when libvips is loaded: the processes are the workers

import pyvips

from benchmarks.peers.worker import Task, in_processes


def render(task: Task) -> None:
    encoder = task["encoder"]
    for rendition in task["renditions"]:
        image = pyvips.Image.thumbnail(
            task["path"],
            rendition["width"],
            height=rendition["height"],
            size="force",  # the size is worked out already, to the pixel
        )
        image.write_to_file(rendition["path"], **_options(rendition, encoder))


def _options(rendition: dict, encoder: dict) -> dict:
    options = {"Q": rendition["quality"], "keep": "none"}
    match rendition["format"]:
        case "jpeg":
            options["optimize_coding"] = encoder["jpeg_optimise_huffman"]
            options["interlace"] = encoder["jpeg_progressive"]
            options["subsample_mode"] = "on" if encoder["jpeg_subsampling"] == "4:2:0" else "off"
        case "webp":
            options["effort"] = encoder["webp_method"]
        case "avif":
            options["effort"] = max(0, 9 - encoder["avif_speed"])
            options["subsample_mode"] = "on" if encoder["avif_subsampling"] == "4:2:0" else "off"
            options["bitdepth"] = 8
    return options


if __name__ == "__main__":
    in_processes(render)
