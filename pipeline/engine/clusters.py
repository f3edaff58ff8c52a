"""Workers on the nodes of a cluster, as the settings want them."""

from __future__ import annotations

from pipeline.names import FETCHED_FOLDER
from pipeline.settings.values import Settings
from pipeline.workers.base import AnyWorkers
from pipeline.workers.tasks import WorkerSetup


def cluster_workers(settings: Settings, setup: WorkerSetup) -> AnyWorkers:
    """Workers on the nodes of the cluster that the settings name; nothing is connected to yet.

    Whether the workers can be confined each node says for itself.

    Raises:
        WorkersError: Ray is not installed.
    """
    # Imported here: only those who have a cluster need it, and it costs 3 ms.
    from pipeline.workers.crew import Job, Places
    from pipeline.workers.on_ray import RayWorkers

    if settings.sandbox == "off":
        setup = setup._replace(folders=None)
    folders = [str(settings.state_dir / FETCHED_FOLDER)]
    if not settings.input_place.is_bucket:
        folders.insert(0, settings.input_place.text)
    places = Places(settings.output_place.text, tuple(folders))
    is_required = settings.sandbox == "required"
    job = Job(setup, settings.render_timeout_s, places, is_required)
    return RayWorkers(settings.cluster, job)
