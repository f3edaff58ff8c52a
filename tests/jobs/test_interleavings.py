"""Whatever the order in which lanes commit, no change is lost."""

from __future__ import annotations

from itertools import count

import pytest
import sqlalchemy as sa
from a_project import picture
from a_shop import Shop
from interleaving import Lane, all_orders


def test_an_image_that_changes_while_it_is_rendered_is_rendered_again(
    shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.env["PIPELINE_DB"] = database_url
    reference = shop.submit(shop.csv({"1": shop.urls("/pic/1")}))
    shop.run()
    assert len(shop.pictures()) == 1
    with shop._as_if_started_here():
        import app as module
        from pipeline.engine.context import open_run
        from pipeline.jobs.images import add_fetched
        from pipeline.states import Source
        from pipeline.storage.blobs import BlobWriter
        from pipeline.storage.folder_store import FolderStore

        app, jobs = module.app, module.app.jobs
        pending = app.render.pending_of[Source.JOBS]
        fetches, originals = jobs.repository.fetches, pending.original_table
        rounds = count()

        def lanes() -> tuple[Lane, Lane]:
            number = next(rounds)
            body = picture(".jpg", f"content {number}")
            writer = BlobWriter(FolderStore(jobs.folders.fetched))
            kept = writer.keep(body)
            assert kept is not None
            with app.database.writing() as write:
                write.execute(sa.update(fetches).values(sha256=kept[0], size_bytes=len(body)))
            # Something to do for the lane that renders, whether it sees the new content or not.
            shop.recipes(f"[half]\nwidth = {20 + number % 2}\n[thumb]\nfit = [30, 30]\n")
            part = run.part(_recipes=None)
            app.load_recipes.work(part)
            return (
                lambda: add_fetched(jobs, run.part(), reference),
                lambda: app.render.work(part),
            )

        def check() -> None:
            app.render.work(run.part(_recipes=None))
            made = sa.select(pending.table.c.sha256).where(pending.ours)
            there = sa.select(originals.c.sha256).where(pending.our_originals)
            with app.database.reading() as con:
                assert con.execute(made).scalar_one() == con.execute(there).scalar_one()

        with open_run(app.database, app.settings) as run:
            assert all_orders(monkeypatch, lanes, check) > 20
