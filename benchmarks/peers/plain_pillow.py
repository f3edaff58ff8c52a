"""Pillow as people write it: open, apply the orientation, resize with Lanczos, save."""

from __future__ import annotations

from PIL import Image, ImageOps

from benchmarks.peers.worker import Task, in_processes, save_options


def render(task: Task) -> None:
    with Image.open(task["path"]) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    for rendition in task["renditions"]:
        size = (rendition["width"], rendition["height"])
        resized = image.resize(size, Image.Resampling.LANCZOS)
        resized.save(rendition["path"], **save_options(rendition, task["encoder"]))


if __name__ == "__main__":
    in_processes(render)
