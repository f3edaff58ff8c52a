"""``datapipe init``: a project of one's own, in a folder of its own."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from dotenv import dotenv_values

from pipeline.cli.terminal import say
from pipeline.errors import NoProjectError, SettingsError
from pipeline.settings.load import load_settings
from pipeline.settings.values import PREFIX

# In the wheel, which is built with them; of a checkout, the files are the project's own.
TEMPLATE = Path(__file__).parents[1] / "template"
CHECKOUT = Path(__file__).parents[2]
PLAIN = re.compile(r"[\w./+@:~-]+")


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--input", "input_dir", metavar="FOLDER", help="Folder of the originals.")
@click.option("--output", "output_dir", metavar="FOLDER", help="Folder of the renditions.")
@click.option("--yes", is_flag=True, help="Ask nothing: input and output where none is given.")
def init(folder: Path, input_dir: str | None, output_dir: str | None, yes: bool) -> None:
    """Start a project in FOLDER, or in the working folder: app.py, recipes.toml and .env.

    Asks where the originals are and where the renditions go; relative to FOLDER, if they are
    relative. Files that are there already are kept.

    \b
    Examples:
      datapipe init
      datapipe init /srv/lockstep --input /srv/shop/photos --output /srv/shop/renditions
      datapipe init shop --yes
    """
    if (folder / "db.sqlite").exists():
        raise NoProjectError(
            f"{folder / 'db.sqlite'}: this folder holds a project already, and its database "
            "belongs to it; name another folder: datapipe init FOLDER"
        )
    given = {"INPUT": input_dir, "OUTPUT": output_dir}
    known = dotenv_values(folder / ".env") if (folder / ".env").exists() else {}
    answers = {}
    for name, question, default in (
        ("INPUT", "Folder of the originals", "input"),
        ("OUTPUT", "Folder of the renditions", "output"),
    ):
        default = known.get(PREFIX + name) or default
        answers[name] = given[name] or (default if yes else _ask(question, default))
    differs = [
        name for name, answer in answers.items() if known.get(PREFIX + name, answer) != answer
    ]
    if known and (differs or not all(PREFIX + name in known for name in answers)):
        raise SettingsError(
            f"{folder / '.env'}: is there already, and does not name these folders; add or change "
            + ", ".join(f"{PREFIX}{name}={answer}" for name, answer in answers.items())
            + ", or remove the file, and run `datapipe init` again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(
        {PREFIX + name: text for name, text in answers.items()}, _whole(folder)
    )
    texts = {name: _template(name) for name in ("app.py", "recipes.toml")}
    texts[".env"] = _dotenv(answers, folder)
    for name, text in texts.items():
        is_kept = (folder / name).exists()
        if not is_kept:
            (folder / name).write_text(text, "utf-8")
        say(f"{folder / name}: {'was there already, and is kept' if is_kept else 'written'}")
    source = settings.input_place.folder
    if source is not None and not source.exists():
        if Path(answers["INPUT"]).is_absolute():
            say(f"{source}: is not there yet; create or mount it", err=True)
        else:
            source.mkdir(parents=True)
    say("next:", *_next(folder))


def _ask(question: str, default: str) -> str:
    try:
        answer: str = click.prompt(question, default=default)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError(
            "nobody answers here; give --input and --output, or --yes for the defaults"
        ) from None
    return answer.strip()


def _whole(folder: Path) -> Path:
    return Path.cwd() / folder.expanduser()


def _template(name: str) -> str:
    place = TEMPLATE if TEMPLATE.is_dir() else CHECKOUT
    return (place / name).read_text("utf-8")


def _dotenv(answers: dict[str, str], folder: Path) -> str:
    """The settings as ``.env``.

    Raises:
        SettingsError: a name cannot be written there.
    """
    lines = ["# The folders of this project; docs and README name every other setting."]
    for name, text in answers.items():
        quoted = text.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{PREFIX}{name}=" + (text if PLAIN.fullmatch(text) else f"'{quoted}'"))
    written = "\n".join(lines) + "\n"
    read = dotenv_values(stream=io.StringIO(written))
    for name, text in answers.items():
        if read.get(PREFIX + name) != text:
            raise SettingsError(
                f"{PREFIX}{name}={text!r}: {folder / '.env'} cannot hold this name; rename the "
                "folder, or set the variable in the environment"
            )
    return written


def _next(folder: Path) -> Iterator[str]:
    """The two commands that come next, as they can be typed here."""
    program, on_path = "datapipe", shutil.which("datapipe")
    started = Path(sys.argv[0]).absolute()
    if started.name == program and not (on_path and started.samefile(on_path)):
        program = str(started)
    into = "" if _whole(folder).samefile(Path.cwd()) else f"cd {folder} && "
    yield f"  {into}{program} run --dry-run     # shows what it would do"
    yield f"  {program} run"
