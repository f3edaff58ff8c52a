"""Steps of datapipe's own in the `app.py` of a project, declared as a user declares them."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from a_project import Project

IMPORTS = """
import pandas as pd
from datapipe.step.batch_transform import BatchTransform
from datapipe.step.datatable_transform import DatatableTransform
from datapipe.store.database import TableStoreDB
from datapipe.store.filedir import JSONFile, TableStoreFiledir
from datapipe.types import Required
from sqlalchemy import Column, Integer, String
"""

KEYS = "Column('source', String, primary_key=True), Column('path', String, primary_key=True)"
BY_RECIPE = f"{KEYS}, Column('recipe', String, primary_key=True)"

# A row for each rendition that is there.
PLACEHOLDERS = f"""
catalog.add_datatable("placeholders", Table(TableStoreDB(
    database, "placeholders", [{BY_RECIPE}, Column("text", String)]
)))


def placeholder(renditions):
    made = renditions[renditions["state"] == "ok"]
    return made[["source", "path", "recipe"]].assign(text="of " + made["file"].astype(str))
"""
PLACEHOLDER = (
    'BatchTransform(placeholder, name="placeholder", inputs=["renditions"],'
    ' outputs=["placeholders"])'
)


def declare(project: Project, code: str, *steps: str) -> None:
    """Add tables and functions to `app.py`, and steps after the one that renders."""
    file = project.root / "app.py"
    text = file.read_text("utf-8")
    if IMPORTS not in text:
        text = text.replace(
            "\nsettings = load_settings()\n", f"{IMPORTS}\nsettings = load_settings()\n"
        )
    text = text.replace("\nsources = (", f"\n{code}\n\nsources = (")
    declared = "".join(f"        {step},\n" for step in steps)
    text = text.replace("        # Waits for what", f"{declared}        # Waits for what")
    file.write_text(text, "utf-8")
    project.env["PYTHONPATH"] = str(project.root)


def rows(project: Project, sql: str) -> list[tuple[Any, ...]]:
    """The answer of a query, in order; none while the table is still to be made."""
    with contextlib.suppress(sqlite3.OperationalError):
        return sorted(project.query(sql))
    return []


def paths(project: Project, table: str = "placeholders") -> list[str]:
    """The originals that a table of the user's has rows of."""
    return sorted({path for (path,) in rows(project, f"SELECT path FROM {table}")})
