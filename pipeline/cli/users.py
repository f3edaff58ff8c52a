"""``datapipe user``: who may use the page, and as what."""

from __future__ import annotations

import click

from pipeline.cli.common import _open_for_reading, _print_json, json_option
from pipeline.cli.terminal import say
from pipeline.states import Role
from pipeline.text import iso


@click.group()
def user() -> None:
    """Say who may use the page of `datapipe serve`, and as what.

    \b
    Each role may do all that those before it may:
      viewer     look at everything
      uploader   upload CSVs, fetch their images again, delete jobs, retry what failed
      moderator  take down and reinstate
      admin      take down for good (the originals are deleted)

    \b
    Examples:
      datapipe user add ada --role moderator
      datapipe user list
      datapipe user remove ada
    """


@user.command()
@click.argument("name")
@click.option(
    "--role",
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="What they may do.",
)
@json_option
@click.pass_context
def add(context: click.Context, name: str, role: str, as_json: bool) -> None:
    """Add a person and print their token, which is shown only now.

    They log in with it on the page; programs send it as `Authorization: Bearer`. What they do is in
    the audit under NAME.

    \b
    Examples:
      datapipe user add ada --role moderator
      datapipe user add shop-import --role uploader --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.users import UserRepository

    token = UserRepository(_open_for_reading(context).database).add(name, Role(role))
    if as_json:
        _print_json({"name": name.strip(), "role": role, "token": token})
        return
    say(f"the token of {name.strip()} ({role}); it is shown only now:", err=True)
    say(token)


@user.command("list")
@json_option
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List who may use the page, by name, with their roles.

    \b
    Examples:
      datapipe user list
      datapipe user list --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.users import UserRepository

    users = UserRepository(_open_for_reading(context).database).all()
    if as_json:
        _print_json([each.as_json() for each in users])
        return
    for each in users:
        say(f"{each.name}  {each.role.value}  since {iso(each.created_ts)}")
    if not users:
        say("there are no users")


@user.command()
@click.argument("name")
@click.pass_context
def remove(context: click.Context, name: str) -> None:
    """Remove a person: their token and all of their sessions end within two seconds.

    What they did stays in the audit under their name.

    \b
    Example:
      datapipe user remove ada
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.users import UserRepository

    UserRepository(_open_for_reading(context).database).remove(name)
    say(f"removed {name.strip()}; their token and their sessions end now")
