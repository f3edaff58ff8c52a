"""The limit: the codec calls that Lockstep makes, in two processes, with nothing around them.

No scan, no hash, no table, no check, no temporary file. One read and one decode per original: a
JPEG is decoded at the smallest scale that still gives the largest rendition its quality
(`divisor`), and each rendition is resized from that same decode.
"""

from __future__ import annotations

import io

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from benchmarks.peers.worker import Task, in_processes, save_options

# Lockstep's own rule (docs/pixels.md): 1.5 times the largest rendition, or exactly the half.
OVERSAMPLING = 1.5
_RESIZER = Resizer()
_LANCZOS = ResizeAlg.convolution(FilterType.lanczos3)


def divisor(src: tuple[int, int], renditions: list[tuple[int, int]]) -> int:
    """The largest divisor at which a JPEG may be decoded for all of its renditions, else 1."""
    largest = (max(width for width, _ in renditions), max(height for _, height in renditions))
    for candidate in (8, 4, 2):  # the scales Pillow lets libjpeg decode at; sides are rounded up
        decoded = (-(-src[0] // candidate), -(-src[1] // candidate))
        if candidate == 2 and decoded == largest:
            return candidate
        if all(have >= OVERSAMPLING * want for have, want in zip(decoded, largest, strict=True)):
            return candidate
    return 1


def render(task: Task) -> None:
    with open(task["path"], "rb") as file:
        source = io.BytesIO(file.read())
    image = Image.open(source)
    renditions = task["renditions"]
    edges = (float(image.width), float(image.height))
    if image.format == "JPEG":
        sizes = [(rendition["width"], rendition["height"]) for rendition in renditions]
        by = divisor(image.size, sizes)
        # What libjpeg rounds up at the right and bottom edge is no picture, so not in the box.
        edges = (image.width / by, image.height / by)
        # Rounded down, as `draft` finds its divisor by a division that rounds down.
        image.draft("RGB", (max(1, image.width // by), max(1, image.height // by)))
    if image.mode != "RGB":
        image = image.convert("RGB")
    for rendition in renditions:
        size = (rendition["width"], rendition["height"])
        if edges == size:
            resized = image
        else:
            image.load()
            resized = Image.new("RGB", size)
            box = CropBox(0, 0, *edges)
            options = ResizeOptions(resize_alg=_LANCZOS, crop_box=box)
            _RESIZER.resize_pil(image, resized, options)
        resized.save(rendition["path"], **save_options(rendition, task["encoder"]))


if __name__ == "__main__":
    in_processes(render)
