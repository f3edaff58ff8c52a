"""Metrics in Prometheus's text format, in a registry of our own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.database.connection import Database
from pipeline.engine.report import Report
from pipeline.engine.timings import Timings
from pipeline.live.lanes import Worker
from pipeline.operations.verdict import verdict
from pipeline.reasons import NO_FAILURE, Code
from pipeline.states import JobState, Lane, UrlState
from pipeline.tables import fetches_table
from pipeline.web.counts import AT_MOST
from pipeline.web.desk_gauges import ModerationMetrics

# What is counted of renditions, as the report of a run names it.
MADE = ("rendered", "reused", "deleted", "taken_down", "failed")
# How a fetch ended, and what the report of a run calls it.
FETCHED = {"fetched": "fetched", "not_modified": "not_modified", "failed": "failed_images"}
RUN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """What is counted while the service runs, and what is queried when it is scraped."""

    def __init__(
        self,
        database: Database,
        counts: Callable[[], dict[str, Any] | None],
        worker: Callable[[], Worker],
    ) -> None:
        """``counts`` and ``worker`` are called at each scrape: the last counts, and who runs."""
        self._database = database
        self._counts = counts
        self._worker = worker
        self._moderation = ModerationMetrics(database)
        self._timings = Timings()
        # States of fetches; when they were counted and how long that took (monotonic seconds).
        self._fetched: dict[str, int] = {}
        self._fetched_at, self._fetched_cost_s = -math.inf, 0.0
        self.registry = CollectorRegistry(auto_describe=False)
        self.run_seconds = Histogram(
            "lockstep_run_seconds",
            "Seconds that a run of this service took",
            buckets=RUN_BUCKETS_S,
            registry=self.registry,
        )
        self.made = Counter(
            "lockstep_renditions_done",
            "Renditions that runs of this service were done with, also of jobs, by what was done",
            ["what"],
            registry=self.registry,
        )
        self.fetches_done = Counter(
            "lockstep_fetches_done",
            "Images of jobs that this service fetched, by how it ended",
            ["outcome"],
            registry=self.registry,
        )
        # All of them, before the first: what appears at 1 has no increase for Prometheus.
        for what in MADE:
            self.made.labels(what)
        for outcome in FETCHED:
            self.fetches_done.labels(outcome)
        self.registry.register(self)

    def observe(self, report: Report) -> None:
        """Count a run that has ended, by what its report says."""
        self.run_seconds.observe(report.seconds)
        self._timings.add_all(report.timings)
        for what in MADE:
            self.made.labels(what).inc(getattr(report, what) + getattr(report.jobs.images, what))
        for outcome, name in FETCHED.items():
            self.fetches_done.labels(outcome).inc(getattr(report.jobs, name))

    def collect(self) -> Iterator[Metric]:
        """What the tables say now."""
        yield from self._doing()
        renders = HistogramMetricFamily(
            "lockstep_render_seconds",
            "Seconds of a worker for one rendition, with its part of reading and decoding",
        )
        renders.add_metric([], *self._timings.buckets())
        yield renders
        yield from self._fetches()
        yield from self._moderation.collect()
        counts = self._counts()
        if counts is None:
            return
        yield _gauge("originals", "Originals that are known", counts["originals"])
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
            yield _gauge(name, f"Renditions that are {name}", counts[name])
        jobs = GaugeMetricFamily("lockstep_jobs", "Jobs by state", labels=["state"])
        for state in JobState:
            jobs.add_metric([state.value], counts["jobs"].get(state.value, 0))
        yield jobs
        in_step = verdict(counts).is_in_step
        yield _gauge("in_step", "Whether `datapipe status --check` finds nothing", in_step)

    def _doing(self) -> Iterator[Metric]:
        """What the runs of this service do, as a whole and lane by lane."""
        worker = self._worker()
        doing = worker.doing
        is_running = doing.state == "running"
        left = doing.total - doing.done if is_running else 0
        yield _gauge("queue", "Renditions that the current run has left", left)
        yield _gauge("running", "Whether a run of this service is in progress", is_running)
        ended = "When this service last ended a run, also one with no change or an error"
        yield _gauge("last_run_timestamp_seconds", ended, worker.looked_ts)
        stopped = bool(worker.last_error or worker.own_error)
        yield _gauge("stopped", "Whether an error ended the last run, or a step of yours", stopped)
        lanes = {each.lane: each.doing for each in worker.lanes}
        running = GaugeMetricFamily(
            "lockstep_lane_running", "Whether a lane has work", labels=["lane"]
        )
        todo = GaugeMetricFamily(
            "lockstep_lane_left", "How much of its present work a lane has left", labels=["lane"]
        )
        for lane in Lane:
            at = lanes.get(lane)
            running.add_metric([lane.value], float(at is not None))
            todo.add_metric([lane.value], max(0, at.total - at.done) if at else 0)
        yield running
        yield todo

    def _fetches(self) -> Iterator[Metric]:
        """URLs of CSVs by how their last fetch ended; ``waiting`` is the queue of fetches.

        Counting millions takes seconds: it takes a tenth of one processor's time at most.
        """
        now = time.monotonic()
        if now - self._fetched_at >= self._fetched_cost_s / AT_MOST:
            table = fetches_table(self._database.sqla_metadata)
            query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
            with self._database.reading() as con:
                self._fetched = dict(con.execute(query).tuples().all())
            self._fetched_at = time.monotonic()
            self._fetched_cost_s = self._fetched_at - now
        fetches = GaugeMetricFamily(
            "lockstep_fetches", "URLs of jobs by how their last fetch ended", labels=["state"]
        )
        for state in UrlState:
            fetches.add_metric([state.value], self._fetched.get(state.value, 0))
        yield fetches


def exposition(metrics: Metrics) -> tuple[bytes, str]:
    """The text that a scrape gets, and its media type."""
    return generate_latest(metrics.registry), CONTENT_TYPE_PLAIN_0_0_4


def _gauge(name: str, what: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(f"lockstep_{name}", what)
    gauge.add_metric([], float(value))
    return gauge


def _by_state(name: str, what: str, label: str, counts: dict[str, dict[str, int]]) -> Metric:
    gauge = GaugeMetricFamily(
        f"lockstep_{name}", f"{what} by {label} and state", labels=[label, "state"]
    )
    states = sorted({state for by_state in counts.values() for state in by_state})
    for of, by_state in counts.items():
        for state in states:
            gauge.add_metric([of, state], by_state.get(state, 0))
    return gauge
