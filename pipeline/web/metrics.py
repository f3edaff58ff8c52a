"""Metrics in Prometheus's text format, in a registry of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.database.connection import Database
from pipeline.engine.report import Report
from pipeline.live.lanes import Doing
from pipeline.reasons import NO_FAILURE, Code
from pipeline.states import UrlState
from pipeline.tables import fetches_table
from pipeline.web.desk_gauges import ModerationMetrics

RUN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """What is counted while the service runs, and what is queried when it is scraped."""

    def __init__(
        self,
        database: Database,
        counts: Callable[[], dict[str, Any] | None],
        doing: Callable[[], Doing],
    ) -> None:
        """``counts`` and ``doing`` are called at each scrape: the last counts, and the run."""
        self._database = database
        self._counts = counts
        self._doing = doing
        self._moderation = ModerationMetrics(database)
        self.registry = CollectorRegistry(auto_describe=False)
        self.run_seconds = Histogram(
            "lockstep_run_seconds",
            "Seconds that a run of this service took",
            buckets=RUN_BUCKETS_S,
            registry=self.registry,
        )
        self.render_seconds = Histogram(
            "lockstep_render_seconds",
            "Seconds per rendition that a run made",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.registry.register(self)

    def observe(self, report: Report) -> None:
        """Count a run that has ended."""
        self.run_seconds.observe(report.seconds)
        if report.rendered:
            self.render_seconds.observe(report.seconds / report.rendered)

    def collect(self) -> Iterator[Metric]:
        """What the tables say now."""
        counts = self._counts()
        doing = self._doing()
        queue = GaugeMetricFamily("lockstep_queue", "Renditions that the current run has left")
        queue.add_metric([], doing.total - doing.done if doing.state == "running" else 0)
        yield queue
        running = GaugeMetricFamily(
            "lockstep_running", "Whether a run of this service is in progress"
        )
        running.add_metric([], float(doing.state == "running"))
        yield running
        yield from self._fetches()
        yield from self._moderation.collect()
        if counts is None:
            return
        originals = GaugeMetricFamily("lockstep_originals", "Originals that are known")
        originals.add_metric([], counts["originals"])
        yield originals
        yield _by_state("renditions", "Renditions", "recipe", counts["recipes"])
        yield _by_state("features", "Features", "feature", counts["features"])
        yield _by_state("records", "Records of users' steps", "step", counts["steps"])
        failures = GaugeMetricFamily(
            "lockstep_failures", "All that failed, by the code of its reason", labels=["code"]
        )
        for code in Code:
            if code not in NO_FAILURE:
                failures.add_metric([code.value], counts["reasons"].get(code.value, 0))
        yield failures
        for name in ("failed", "pending"):
            gauge = GaugeMetricFamily(f"lockstep_{name}", f"Renditions that are {name}")
            gauge.add_metric([], counts[name])
            yield gauge

    def _fetches(self) -> Iterator[Metric]:
        """URLs of CSVs by how their last fetch ended; ``waiting`` is the queue of fetches."""
        table = fetches_table(self._database.sqla_metadata)
        query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
        with self._database.reading() as con:
            counted = dict(con.execute(query).tuples().all())
        fetches = GaugeMetricFamily(
            "lockstep_fetches", "URLs of jobs by how their last fetch ended", labels=["state"]
        )
        for state in UrlState:
            fetches.add_metric([state.value], counted.get(state.value, 0))
        yield fetches


def exposition(metrics: Metrics) -> tuple[bytes, str]:
    """The text that a scrape gets, and its media type."""
    return generate_latest(metrics.registry), CONTENT_TYPE_PLAIN_0_0_4


def _by_state(name: str, what: str, label: str, counts: dict[str, dict[str, int]]) -> Metric:
    gauge = GaugeMetricFamily(
        f"lockstep_{name}", f"{what} by {label} and state", labels=[label, "state"]
    )
    states = sorted({state for by_state in counts.values() for state in by_state})
    for of, by_state in counts.items():
        for state in states:
            gauge.add_metric([of, state], by_state.get(state, 0))
    return gauge
