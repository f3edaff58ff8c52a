"""Metrics of moderation, queried from its tables when the service is scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from pipeline.blocklist import Blocklist
from pipeline.database.connection import Database
from pipeline.moderation_tables import reviews_table
from pipeline.near import BlockedPictures
from pipeline.states import ReviewKind, ReviewState, TakedownState

# From a minute to a month: people decide, not machines.
BUCKETS_S = (60, 300, 900, 3_600, 4 * 3_600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
# Takedowns by likeness have a source each.
OF_TAKEDOWN, TAKEDOWNS = "takedown ", "takedowns"


class ModerationMetrics:
    """Reviews, takedowns and blocked hashes. Hashes are counted again only if they have changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocklist = Blocklist(database)
        self._version: object = None
        self._hashes: Counter[tuple[str, str]] = Counter()

    def collect(self) -> Iterator[Metric]:
        """What the tables say now."""
        yield self._reviews()
        yield self._decisions()
        yield self._takedowns()
        yield self._blocked_hashes()

    def _reviews(self) -> Metric:
        table = reviews_table(self._database.sqla_metadata)
        query = sa.select(table.c.kind, table.c.state, sa.func.count())
        rows = self._database.rows(query.group_by(table.c.kind, table.c.state))
        counted = {(kind, state): count for kind, state, count in rows}
        gauge = GaugeMetricFamily(
            "lockstep_reviews",
            "Content that was held or reported, by what was decided",
            labels=["kind", "state"],
        )
        for kind in ReviewKind:
            for state in ReviewState:
                key = (kind.value, state.value)
                gauge.add_metric(key, counted.get(key, 0))
        return gauge

    def _decisions(self) -> Metric:
        table = reviews_table(self._database.sqla_metadata)
        took = table.c.decided_ts - table.c.created_ts
        within = [sa.func.sum(sa.case((took <= bound, 1), else_=0)) for bound in BUCKETS_S]
        query = (
            sa.select(table.c.kind, sa.func.count(), sa.func.sum(took), *within)
            .where(table.c.decided_ts.is_not(None))
            .group_by(table.c.kind)
        )
        found = {row[0]: row[1:] for row in self._database.rows(query)}
        histogram = HistogramMetricFamily(
            "lockstep_decision_seconds",
            "Seconds from a report, or from holding, to the decision",
            labels=["kind"],
        )
        for kind in ReviewKind:
            count, total, *counts = found.get(kind.value, (0, 0.0, *[0] * len(BUCKETS_S)))
            buckets = [
                (str(float(bound)), float(number))
                for bound, number in zip(BUCKETS_S, counts, strict=True)
            ]
            histogram.add_metric([kind.value], [*buckets, ("+Inf", float(count))], float(total))
        return histogram

    def _takedowns(self) -> Metric:
        acts = self._blocklist.acts
        query = sa.select(acts.c.state, sa.func.count()).group_by(acts.c.state)
        with self._database.reading() as con:
            counted = dict(con.execute(query).tuples().all())
        gauge = GaugeMetricFamily("lockstep_takedowns", "Takedowns by state", labels=["state"])
        for state in TakedownState:
            gauge.add_metric([state.value], counted.get(state.value, 0))
        return gauge

    def _blocked_hashes(self) -> Metric:
        hashes = self._blocklist.hashes
        # Takedowns by likeness have a version of their own.
        version = (self._blocklist.version(), BlockedPictures(self._database).version())
        if version != self._version:
            query = sa.select(hashes.c.kind, hashes.c.source, sa.func.count())
            counted: Counter[tuple[str, str]] = Counter()
            grouped = query.group_by(hashes.c.kind, hashes.c.source)
            for kind, source, count in self._database.rows(grouped):
                named = TAKEDOWNS if source.startswith(OF_TAKEDOWN) else source
                counted[kind, named] += count
            self._version, self._hashes = version, counted
        gauge = GaugeMetricFamily(
            "lockstep_blocked_hashes",
            "Hashes that are blocked, by kind and by the list that blocks them",
            labels=["kind", "source"],
        )
        for key, count in sorted(self._hashes.items()):
            gauge.add_metric(key, count)
        return gauge
