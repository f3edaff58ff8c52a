"""What the form of ``POST /jobs`` sends beside the file, and the job that is made of both."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

from starlette.datastructures import FormData, UploadFile

from pipeline.csvs.mapping import Mapping, given_mapping
from pipeline.errors import UnknownColumnsError
from pipeline.jobs.acts import Submitted, submit
from pipeline.jobs.context import Jobs
from pipeline.jobs.copies import held_copy
from pipeline.jobs.forms import REPLACE
from pipeline.jobs.uploads import can_be_asked, keep
from pipeline.storage.folder import made

# What the form sends as `result`; nothing is the setting.
RESULTS = ("", "add", REPLACE)
# Fields that name a column, and all fields but the file.
MAPS_MAX = 40
FIELDS_MAX = MAPS_MAX + 4
_TRUE = ("true", "on", "1", "yes")
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "webhook": {"type": "string", "maxLength": 2000},
                        "result": {"type": "string", "enum": [*RESULTS]},
                        "map": {
                            "type": "array",
                            "items": {"type": "string", "maxLength": 300},
                            "maxItems": MAPS_MAX,
                        },
                        "grouped": {"type": "boolean"},
                    },
                }
            }
        },
    }
}


class Wanted(NamedTuple):
    """What is asked of a job; ``may_ask``: a person can be asked which column is which."""

    webhook: str
    result: str
    mapping: Mapping | None
    may_ask: bool


def mapping_in(form: FormData) -> Mapping | None:
    """Which column is which, by the fields ``map`` and ``grouped``; None where nothing says it.

    Raises:
        SettingsError: they are wrong.
    """
    pairs = [str(pair) for pair in form.getlist("map") if str(pair).strip()]
    grouped = str(form.get("grouped") or "").strip().lower() in _TRUE
    return given_mapping(pairs, grouped, option="")


def submitted(jobs: Jobs, file: UploadFile, wanted: Wanted) -> Submitted | str:
    """The job; or where a person can be asked and the headers are not known, the token of the
    upload.

    Raises:
        CsvError, SettingsError, OutputError: as :func:`pipeline.jobs.acts.submit` does.
    """
    name, webhook, result = file.filename or "", wanted.webhook or None, wanted.result or None
    with held_copy(made(jobs.folders.csvs)) as copy:
        with open(copy, "wb") as upload:
            shutil.copyfileobj(file.file, upload, 1 << 20)
        try:
            return submit(jobs, copy, name, webhook, result=result, mapping=wanted.mapping)
        except UnknownColumnsError:
            if not (wanted.may_ask and can_be_asked(copy)):
                raise
            return keep(jobs.folders, copy, name, wanted.webhook, wanted.result)
