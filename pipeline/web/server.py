"""The server: routes, guard and worker put together, and what serves them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from types import FrameType

from fastapi import FastAPI
from starlette.types import ASGIApp

from pipeline.app import Lockstep
from pipeline.errors import SettingsError
from pipeline.settings.parsing import open_files_limit
from pipeline.tables import make_tables
from pipeline.users import UserRepository
from pipeline.web import connections, problems
from pipeline.web.connections import ConnectionLimits
from pipeline.web.routes import (
    audit,
    bulks,
    entry,
    events,
    failed,
    files,
    health,
    home,
    images,
    jobs,
    notifications,
    reports,
    review,
    similar,
    takedowns,
    uploads,
)
from pipeline.web.routes.files import FilesAtOnce, FilesFirst, Shelf
from pipeline.web.security.guard import Guard
from pipeline.web.security.hosts import is_loopback
from pipeline.web.service import Options, Service

ABOUT = (
    "Keeps every resized image in step with its original. Each route is a page for people and "
    "JSON for programs: send `Accept: application/json`, or append `.json` to the path."
)
PAGES = (
    *(files, home, failed, jobs, uploads, images, similar, bulks, reports, review, audit),
    takedowns,
    *(events, health, notifications, entry),
)


def refuse_open_door(app: Lockstep, host: str, insecure: bool) -> None:
    """Refuse to give everybody who can connect access.

    Raises:
        SettingsError: ``host`` can be reached from other machines, and nobody has to log in.
        DatabaseError: the users cannot be read.
    """
    settings = app.settings
    if is_loopback(host) or settings.token or settings.user_header or insecure:
        return
    make_tables(app.database)
    if UserRepository(app.database).all():
        return
    raise SettingsError(
        f"--host {host}: other machines can reach it, PIPELINE_TOKEN is not set and there are no "
        "users; set it to a secret of 16 characters or more, or add users (`datapipe user add`), "
        "or use --insecure if anyone who can connect may do everything"
    )


def build(service: Service, shelf: Shelf) -> ASGIApp:
    """The whole application, guard and all."""

    @contextlib.asynccontextmanager
    async def lifespan(site: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    site = FastAPI(
        title="Lockstep",
        description=ABOUT,
        version=version("lockstep"),
        docs_url=None,
        redoc_url=None,
        # A route of ours gives it: those of the framework have no role.
        openapi_url=None,
        lifespan=lifespan,
        # Unused tracing spans would double the cost of a small response.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    site.state.service = service
    site.state.shelf = shelf
    problems.install(site)
    for module in PAGES:
        site.include_router(module.router)
    site.state.routes = [route for module in PAGES for route in module.router.routes]
    front = FilesFirst(site, shelf)
    return Guard(front, service.hosts, service.access, service.settings.jobs.max_bytes)


def serve(app: Lockstep, options: Options) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: the address cannot be bound, or the limit of connections is too high.
        DatabaseError: the tables are of another layout, or cannot be made.
    """
    limits = ConnectionLimits(connections=_checked_connections(app.settings.max_connections))
    service = Service(app, options)
    sockets = [_listening(options.host, options.port)]
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    class Server(connections.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"Lockstep is at http://{shown}:{port} (Ctrl-C ends it)", file=sys.stderr)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Now, and not after the open event streams have run into the time limit.
            service.end()
            super().handle_exit(sig, frame)

    # uvicorn raises the signal again when it is done; by then it has been handled.
    signal.signal(signal.SIGTERM, lambda number, stack: None)
    # Open event streams are closed; nothing else takes longer.
    shelf = Shelf(app, service.access)
    at_once = FilesAtOnce(shelf, service.hosts, service.access)
    server = Server(build(service, shelf), limits, at_once, timeout_graceful_shutdown=3)
    server.run(sockets=sockets)


def _checked_connections(most: int) -> int:
    """The limit of connections, if it leaves enough descriptors for the worker.

    Raises:
        SettingsError: it does not.
    """
    files = open_files_limit()
    if most > files // 2:
        raise SettingsError(
            f"PIPELINE_MAX_CONNECTIONS={most}: this process may open {files:,} files and needs "
            "half of them itself; raise its limit (LimitNOFILE of systemd, or `ulimit -n`), or "
            f"choose at most {files // 2}"
        )
    return most


def _listening(host: str, port: int) -> socket.socket:
    """A socket at this address.

    Raises:
        SettingsError: there is no such address here, or it is in use.
    """
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = known[0]
        # The protocol by its number: without it asyncio does not know the socket for TCP and
        # leaves Nagle's algorithm on, which holds the body of a small answer back for 40 ms.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}); is another "
            "service already there? Choose another --port"
        ) from None
    return listening
