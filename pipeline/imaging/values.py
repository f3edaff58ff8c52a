"""Values: what the function of a feature says of an original, and whether that can be kept."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from pipeline.errors import FunctionError
from pipeline.imaging.model import Failure, Header, Values
from pipeline.reasons import Code, Reason
from pipeline.transforms.features import Feature
from pipeline.transforms.functions import call, first_parameter

# A row of the table of features is read whole, a page of them at a time.
MAX_JSON_BYTES = 64_000


def wants_header(feature: Feature) -> bool:
    """Whether its function takes the ``original`` first, and no picture: nothing is decoded."""
    return first_parameter(feature.function) == "original"


def values_of(feature: Feature, of: Image.Image | Header) -> Values | Failure:
    """What the function of a feature returns, unless it raises or that cannot be kept."""
    try:
        return Values(feature.name, _json(call(feature.function, of)))
    except FunctionError as error:
        return Failure(feature.name, Reason(error.code, str(error)), error.log_text)
    except ValueError as error:
        reason = Reason(Code.FUNCTION_FAILED, f"{feature.function.name}: {error}")
        return Failure(feature.name, reason)


def _json(said: Any) -> str:
    if not isinstance(said, dict):
        raise ValueError(f"returned {_kind(said)}; it must return a dict")
    for key, value in said.items():
        if not isinstance(key, str):
            raise ValueError(f"returned a dict with a key of {_kind(key)}; its keys must be text")
        for each in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(each, str | int | float | None):
                raise ValueError(
                    f"returned {key} = {_kind(each)}; values must be text, numbers, true, false or "
                    "None, or lists of those"
                )
    try:
        text = json.dumps(said, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ValueError("returned a number that is infinite, or not a number (NaN)") from None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("returned text that is not valid Unicode") from None
    if size > MAX_JSON_BYTES:
        raise ValueError(f"returned {size:,} bytes of JSON; at most {MAX_JSON_BYTES:,} are kept")
    return text


def _kind(value: object) -> str:
    kind = type(value)
    return (
        "None" if value is None else f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
    )
