"""The limit: the codec calls that the fastest pipeline makes, in two processes, nothing around.

No scan, no hash, no table, no temporary file. One read and one decode per original: a JPEG is
decoded at the smallest scale that still gives the largest rendition its quality (`divisor`),
and each smaller rendition is resized from that same decode.
"""

from __future__ import annotations

import io

from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from benchmarks.peers.worker import Task, in_processes, save_options

# A rendition that no scaled decode hits is resized from one at least this many times as large:
# less costs 0.7 dB against a whole decode, more costs time for nothing.
OVERSAMPLING = 2
_RESIZER = Resizer()
_LANCZOS = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.lanczos3))


def divisor(src: tuple[int, int], renditions: list[tuple[int, int]]) -> int:
    """The largest divisor at which a JPEG may be decoded for all of its renditions, else 1."""
    for candidate in (8, 4, 2):  # the scales Pillow lets libjpeg decode at; sides are rounded up
        decoded = tuple(-(-side // candidate) for side in src)
        if all(_serves(decoded, rendition) for rendition in renditions):
            return candidate
    return 1


def _serves(decoded: tuple[int, int], rendition: tuple[int, int]) -> bool:
    pairs = list(zip(decoded, rendition, strict=True))
    exact = all(abs(have - want) <= 1 for have, want in pairs)
    return exact or all(have >= OVERSAMPLING * want for have, want in pairs)


def render(task: Task) -> None:
    with open(task["path"], "rb") as file:
        source = io.BytesIO(file.read())
    image = Image.open(source)
    renditions = task["renditions"]  # largest first
    if image.format == "JPEG":
        sizes = [(rendition["width"], rendition["height"]) for rendition in renditions]
        by = divisor(image.size, sizes)
        # Rounded down, as `draft` finds its divisor by a division that rounds down.
        image.draft("RGB", (max(1, image.width // by), max(1, image.height // by)))
    if image.mode != "RGB":
        image = image.convert("RGB")
    for rendition in renditions:
        size = (rendition["width"], rendition["height"])
        if image.size == size:
            resized = image
        else:
            resized = Image.new("RGB", size)
            _RESIZER.resize_pil(image, resized, _LANCZOS)
        resized.save(rendition["path"], **save_options(rendition, task["encoder"]))


if __name__ == "__main__":
    in_processes(render)
