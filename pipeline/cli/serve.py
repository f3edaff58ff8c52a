"""``datapipe serve``: the page and its API, with the pipeline inside."""

from __future__ import annotations

import logging

import click

from pipeline.cli.common import _open_for_writing, _open_places, _say_if_not_confined
from pipeline.cli.terminal import log_to_stderr


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any.",
)
@click.option("--no-watch", is_flag=True, help="Run only when requested on the page.")
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow access without a token to anyone who can connect, even from other machines.",
)
@click.pass_context
def serve(context: click.Context, host: str, port: int, no_watch: bool, insecure: bool) -> None:
    """Serve the web page and its API; the pipeline runs inside, so this is the whole service.

    Listens on this machine only unless --host says otherwise, and then requires PIPELINE_TOKEN or
    users (`datapipe user`).
    Stops on SIGTERM and Ctrl-C; finished work is kept.

    \b
    Examples:
      datapipe serve
      datapipe serve --port 9000 --no-watch
      PIPELINE_TOKEN=... datapipe serve --host 0.0.0.0
    """
    # Imported here: only `datapipe serve` needs FastAPI and uvicorn, and they cost 290 ms.
    from pipeline.web.server import refuse_open_door
    from pipeline.web.server import serve as serve_app
    from pipeline.web.service import Options

    app = _open_for_writing(context)
    refuse_open_door(app, host, insecure)
    _say_if_not_confined(app)
    log_to_stderr(logging.WARNING, "%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    log = logging.getLogger("lockstep")
    log.setLevel(logging.INFO)
    for warning in _open_places(app):  # those of the settings were said when it was opened
        log.warning("%s", warning)
    serve_app(app, Options(host, port, watch=not no_watch, insecure=insecure))
