"""The project in the working folder: its ``app.py`` is the one that is loaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from datapipe.compute import DatapipeApp

from pipeline import __version__
from pipeline.cli.terminal import say
from pipeline.errors import NoProjectError


def load_from_here(cli: click.Group, without: click.Command) -> None:
    """Have datapipe's group load the ``app.py`` of the working folder, and no other one.

    datapipe looks for it wherever Python finds modules: in a folder without a project it would
    find that of a checkout that is installed, and start its database here. The command ``without``
    works where there is no project.
    """
    load = cli.callback
    assert load is not None

    def load_here(**options: Any) -> Any:
        context = click.get_current_context()
        if context.invoked_subcommand == without.name:
            return None
        module = options["pipeline"].partition(":")[0]
        is_named = context.get_parameter_source("pipeline") is ParameterSource.COMMANDLINE
        file = Path.cwd() / f"{module}.py"
        if file.is_file():
            _import(module, file)
        elif not is_named:
            raise NoProjectError(
                f"{Path.cwd()}: there is no project in this folder (no app.py); change to its "
                "folder, or start one here with `datapipe init`"
            )
        try:
            answer = load(**options)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise NoProjectError(
                f"{Path.cwd()}: there is no {module}.py in this folder; change to the project's "
                "folder, or name another module with --pipeline"
            ) from None
        loaded = getattr(sys.modules[module], "__file__", None)
        here = Path.cwd() / "app.py"
        if here.is_file() and loaded is not None and not here.samefile(loaded):
            say(f"warning: {here} is not used: --pipeline names {loaded}", err=True)
        return answer

    cli.callback = load_here


def _import(module: str, file: Path) -> None:
    """Import ``file`` as ``module``.

    Raises:
        NoProjectError: it declares no pipeline.
    """
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        loaded = sys.modules[module] = importlib.util.module_from_spec(spec)
        # Modules of the project's own, which it may import.
        sys.path.append(str(file.parent))
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[module]
            raise
    if not isinstance(getattr(sys.modules[module], "app", None), DatapipeApp):
        raise NoProjectError(
            f"{file}: creates no `app` with pipeline.app.Lockstep, so this is no project of "
            "Lockstep; change to its folder, or start one with `datapipe init FOLDER`"
        )


def _say_version(context: click.Context, option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        say(f"lockstep {__version__}")
        context.exit()


version_option = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Print the version of Lockstep and exit.",
)
