"""Reasons of failures: a stable code for programs, and words for people.

A code says what kind of failure it is: what failed is grouped, counted and retried by it. The text
of a failure says the details of one file or address, such as how many bytes are there.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Code(str, enum.Enum):
    """Why there is no rendition, or no image; the same words in the tables, the CLI and JSON.

    A word here is kept for ever: programs rely on it.
    """

    # Of the file.
    CUT_OFF = "cut_off"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"
    BROKEN = "broken"
    TOO_LARGE = "too_large"
    TOO_MANY_FRAMES = "too_many_frames"
    UNREADABLE = "unreadable"
    # Of making something of it.
    RESULT_TOO_LARGE = "result_too_large"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    WORKER_KILLED = "worker_killed"
    WORKER_CRASHED = "worker_crashed"
    NODE_LOST = "node_lost"
    RENDERER_FAILED = "renderer_failed"
    FUNCTION_FAILED = "function_failed"
    STEP_FAILED = "step_failed"
    NOT_WRITTEN = "not_written"
    # Of fetching it.
    BAD_URL = "bad_url"
    REFUSED_ADDRESS = "refused_address"
    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    HTTP_ERROR = "http_error"
    BAD_REDIRECT = "bad_redirect"
    BAD_RESPONSE = "bad_response"
    BAD_CERTIFICATE = "bad_certificate"
    NO_CONNECTION = "no_connection"
    NOT_FETCHED = "not_fetched"
    # What is no failure, but leaves an image without renditions as well.
    NOT_RENDERED = "not_rendered"
    WITHDRAWN = "withdrawn"
    HELD = "held"
    OTHER = "other"

    @property
    def words(self) -> str:
        """What people read of all that failed in this way."""
        return _WORDS[self]

    @property
    def hint(self) -> str:
        """What the operator of Lockstep can do about it, empty where there is nothing to set.

        It names settings: never for those who only upload a CSV.
        """
        return _HINTS.get(self, "")


class Reason(NamedTuple):
    """Why one thing failed: its code, and the text that people read."""

    code: Code
    text: str


def known_code(stored: str | None) -> Code:
    """The code of a row, also of one that a later release has written."""
    try:
        return Code(stored)
    except ValueError:
        return Code.OTHER


def code_of_http(status: int) -> Code:
    """The code of a response that is not the wanted one, by its HTTP status."""
    if status in (404, 410):
        return Code.NOT_FOUND
    if status in (401, 402, 403, 407, 451):
        return Code.ACCESS_DENIED
    if status == 429:
        return Code.TOO_MANY_REQUESTS
    if status == 408:
        return Code.TIMED_OUT
    return Code.SERVER_ERROR if status >= 500 else Code.HTTP_ERROR


# What is no failure: nothing is counted or retried for it.
NO_FAILURE = (Code.WITHDRAWN, Code.HELD)

_WORDS = {
    Code.CUT_OFF: "The file is cut off",
    Code.EMPTY: "The file is empty",
    Code.NOT_AN_IMAGE: "Not an image",
    Code.UNSUPPORTED: "A format that cannot be read",
    Code.BROKEN: "The picture is damaged",
    Code.TOO_LARGE: "The picture is too large",
    Code.TOO_MANY_FRAMES: "The animation has too many frames",
    Code.UNREADABLE: "The file cannot be opened",
    Code.RESULT_TOO_LARGE: "The rendition would be too large",
    Code.OUT_OF_MEMORY: "More memory needed than is allowed",
    Code.TIMED_OUT: "It took too long",
    Code.WORKER_KILLED: "The worker was killed",
    Code.WORKER_CRASHED: "The decoder crashed",
    Code.NODE_LOST: "The nodes that worked on it were lost",
    Code.RENDERER_FAILED: "The renderer failed",
    Code.FUNCTION_FAILED: "A function failed",
    Code.STEP_FAILED: "A step of the pipeline failed",
    Code.NOT_WRITTEN: "The rendition cannot be written",
    Code.BAD_URL: "The address is not valid",
    Code.REFUSED_ADDRESS: "The address is not public",
    Code.NOT_FOUND: "Not found at its address",
    Code.ACCESS_DENIED: "The server denies access",
    Code.TOO_MANY_REQUESTS: "The server asks for fewer requests",
    Code.SERVER_ERROR: "The server has an error",
    Code.HTTP_ERROR: "An unexpected response",
    Code.BAD_REDIRECT: "A redirect that leads nowhere",
    Code.BAD_RESPONSE: "The response is damaged",
    Code.BAD_CERTIFICATE: "The certificate of the server is not valid",
    Code.NO_CONNECTION: "No connection to the server",
    Code.NOT_FETCHED: "Not fetched in time",
    Code.NOT_RENDERED: "Not rendered",
    Code.WITHDRAWN: "Withdrawn",
    Code.HELD: "Held for review",
    Code.OTHER: "Another reason",
}
_HINTS = {
    Code.TOO_LARGE: "PIPELINE_MAX_PIXELS and PIPELINE_WORKER_MEMORY_MB are the limits, of fetched "
    "images also PIPELINE_FETCH_MAX_PIXELS and PIPELINE_FETCH_MAX_BYTES",
    Code.TOO_MANY_FRAMES: "PIPELINE_MAX_FRAMES is the limit",
    Code.RESULT_TOO_LARGE: "PIPELINE_MAX_PIXELS is the limit",
    Code.OUT_OF_MEMORY: "PIPELINE_WORKER_MEMORY_MB is the limit",
    Code.TIMED_OUT: "PIPELINE_RENDER_TIMEOUT_S is the limit of rendering, PIPELINE_FETCH_TIMEOUT_S "
    "of fetching",
    Code.FUNCTION_FAILED: "the log has the traceback; of files, a function may read those in "
    "PIPELINE_FUNCTION_READS",
    Code.STEP_FAILED: "the log has the traceback",
    Code.BAD_URL: "PIPELINE_FETCH_PORTS lists the ports that are fetched from",
    Code.REFUSED_ADDRESS: "PIPELINE_FETCH_ALLOW lists hosts and networks that are allowed anyway",
    Code.NOT_FETCHED: "PIPELINE_JOB_FETCH_S is the limit",
}
