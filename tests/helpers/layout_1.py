"""Tables as the release before layout 2 had them, made from those of today."""

from pathlib import Path

import sqlalchemy as sa

FILE = [
    *("file", "width_px", "height_px", "size_bytes", "file_sha256", "sha256", "original_bytes"),
    *("state", "reason", "since", "fingerprint", "renderer"),
]
META = ["hash", "create_ts", "update_ts", "process_ts", "delete_ts"]
STAT = ["size_bytes", "mtime_ns", "ctime_ns", "inode"]
DONE = ["process_ts", "is_success", "priority", "error"]
# Old table: source, new table, keys, other columns.
TABLES = {
    "input_images": ("input", "originals", ["path"], STAT),
    "recipes": ("input", "recipes", ["recipe"], ["fingerprint", "spec"]),
    "renditions": ("input", "renditions", ["path", "recipe"], FILE),
    "fetched_images": ("jobs", "originals", ["path"], ["sha256", "size_bytes"]),
    "job_recipes": ("jobs", "recipes", ["recipe"], ["fingerprint", "spec"]),
    "job_renditions": ("jobs", "renditions", ["path", "recipe"], FILE),
}
MARKS = {
    "render_meta": ("input", "render_meta", ["path", "recipe"], DONE),
    "render_jobs_meta": ("jobs", "render_meta", ["path", "recipe"], DONE),
}


def downgrade(url: str, state: Path) -> None:
    """Give a database the layout 1, and the state folder the hard links that came with it."""
    engine, metadata = sa.create_engine(url), sa.MetaData()
    plan = dict(TABLES)
    for name, (source, new, keys, _) in TABLES.items():
        plan[f"{name}_meta"] = (source, f"{new}_meta", keys, META)
    plan |= MARKS
    rows: dict[str, list[dict[str, object]]] = {}
    with engine.begin() as con:
        metadata.reflect(con)
        for name, (source, new, keys, others) in plan.items():
            table = metadata.tables[new]
            columns = [table.c[column] for column in (*keys, *others)]
            query = sa.select(*columns).where(table.c.source == source)
            rows[name] = [dict(row._mapping) for row in con.execute(query)]
        old = sa.MetaData()
        for name, (_, new, keys, others) in plan.items():
            kinds = metadata.tables[new].c
            columns = [sa.Column(key, kinds[key].type, primary_key=True) for key in keys]
            columns += [sa.Column(other, kinds[other].type) for other in others]
            if name == "fetched_images":
                columns += [sa.Column(c, sa.String) for c in ("reference", "number", "sequence")]
                for row in rows[name]:
                    path = str(row["path"])
                    link = state / "originals" / path
                    link.parent.mkdir(parents=True, exist_ok=True)
                    digest = str(row["sha256"])
                    link.hardlink_to(state / "fetched" / digest[:2] / digest)
                    row |= {"reference": path.partition("/")[0], "number": "1", "sequence": "0"}
            if name in ("renditions", "job_renditions"):
                columns.append(sa.Index(f"ix_{name}_file", "file"))  # type: ignore[arg-type]
            if name == "job_renditions":
                for row in rows[name]:
                    row["file"] = str(row["file"]).removeprefix("jobs/")
            sa.Table(name, old, *columns)
        for table in {new for _, new, _, _ in plan.values()}:
            metadata.tables[table].drop(con)
        for added in ("webhook_secret", "options", "without_images"):
            con.execute(sa.text(f"ALTER TABLE jobs DROP COLUMN {added}"))
        for table in ("features", "fetches"):
            con.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN code"))
        con.execute(sa.text("DROP INDEX ix_takedowns_unsent"))
        for added in ("instance", "unsent"):
            con.execute(sa.text(f"ALTER TABLE takedowns DROP COLUMN {added}"))
        old.create_all(con)
        for name, found in rows.items():
            if found:
                con.execute(sa.insert(old.tables[name]), found)
        con.execute(sa.text("UPDATE lockstep_state SET value = '1' WHERE name = 'layout'"))
    engine.dispose()


def dump(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, but for the state, and for what no layout before knew."""
    engine, metadata = sa.create_engine(url), sa.MetaData()
    with engine.begin() as con:
        metadata.reflect(con)
        found = {
            name: sorted(map(tuple, con.execute(sa.select(*_by_name(table)))), key=repr)
            for name, table in metadata.tables.items()
            if name != "lockstep_state"
        }
    engine.dispose()
    return found


def _by_name(table: sa.Table) -> list[sa.Column[object]]:
    known = set(table.c.keys()) - {"options", "without_images", "instance", "unsent"}
    return [table.c[name] for name in sorted(known)]
