"""Palette: the dominant colours of a picture."""

from __future__ import annotations

from PIL import Image

# Below it, a pixel shows more of what is behind it than of itself.
_SEEN = 128


def palette(image: Image.Image, *, count: int = 5) -> dict[str, list[str] | list[float]]:
    """Up to ``count`` colours, the most frequent first, and the share of the picture that each has.

    By median cut, refined by k-means: the same pixels give the same colours. Pixels that are more
    than half transparent do not count; a picture of no others has no colours.

    Raises:
        ValueError: ``count`` is not from 1 to 256.
    """
    if not 1 <= count <= 256:
        raise ValueError(f"count = {count}: must be from 1 to 256")
    pixels = image.convert("RGB")
    if image.mode == "RGBA":
        alpha = image.getchannel("A").tobytes()
        seen = [at for at, value in enumerate(alpha) if value >= _SEEN]
        if not seen:
            return {"colors": [], "shares": []}
        every = pixels.tobytes()
        pixels = Image.frombytes(
            "RGB", (len(seen), 1), b"".join(every[3 * at : 3 * at + 3] for at in seen)
        )
    reduced = pixels.quantize(count, Image.Quantize.MEDIANCUT, kmeans=1)
    colours, total = reduced.getpalette() or [], pixels.width * pixels.height
    shares: dict[str, int] = {}
    for number, index in reduced.getcolors() or []:
        assert isinstance(index, int)
        colour = "#" + bytes(colours[3 * index : 3 * index + 3]).hex()
        shares[colour] = shares.get(colour, 0) + number
    ordered = sorted(shares, key=lambda colour: (-shares[colour], colour))
    return {
        "colors": ordered,
        "shares": [round(shares[colour] / total, 4) for colour in ordered],
    }
