"""MySQL 8 and MariaDB: servers that several machines may use at once."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.database.keys import Text
from pipeline.database.locks import Locks, NamedLocks
from pipeline.database.long_keys import LongKeys
from pipeline.database.mysql_sql import Insert, Statements, Types, collation
from pipeline.database.pool import check_idle
from pipeline.database.upserts import or_update
from pipeline.errors import DatabaseError, SettingsError

# Field types of the protocol, as both drivers number them.
DECIMAL, VARIABLE_BYTES, BYTES = 246, 253, 254

DRIVERS = {"pymysql": "pymysql", "mysqldb": "MySQLdb"}


class MySQL:
    """A server of MySQL or MariaDB."""

    name = "mysql"
    files: tuple[Path, ...] = ()
    insert = Insert

    def __init__(self, url: sa.URL) -> None:
        self._url = url.set(drivername=f"mysql+{_driver(url)}")
        self.locks: Locks = NamedLocks(url.database or "")
        self.address = self._url.update_query_dict({"charset": "utf8mb4"}).render_as_string(
            hide_password=False
        )

    def prepare(self) -> None:
        return

    def tune(self, engine: sa.Engine, metadata: sa.MetaData) -> None:
        check_idle(engine)
        dialect: Any = engine.dialect
        dialect.statement_compiler = Statements
        dialect.type_compiler_instance = Types(dialect)
        dialect.colspecs = {**dialect.colspecs, sa.String: Text}
        long_keys = dialect.long_keys = LongKeys(engine, metadata)

        def set_up(connection: Any, record: object) -> None:
            _set_up(connection, long_keys)

        sa.event.listen(engine, "connect", set_up)

    def begin_layout(self, con: sa.Connection) -> None:
        # Each of them ends the transaction before it, whatever is done.
        return

    def reader(self, engine: sa.Engine) -> sa.Engine:
        return engine

    def upsert(
        self,
        con: sa.Connection,
        table: sa.Table,
        keys: Sequence[str],
        changing: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        # Both drivers make one statement of many rows of it.
        con.execute(or_update(Insert(table), keys, changing), list(rows))

    def settle(self, engine: sa.Engine) -> None:
        return

    def stop(self, engine: sa.Engine, driver: Any) -> None:
        # No driver can do it by the connection that waits for the answer.
        with engine.connect() as con:
            con.exec_driver_sql(f"KILL QUERY {int(driver.thread_id())}")

    def copy(self, engine: sa.Engine, target: Path, name: Path) -> None:
        is_mariadb = engine.dialect.is_mariadb  # type: ignore[attr-defined]
        program, kind = ("mariadb-dump", "MariaDB") if is_mariadb else ("mysqldump", "MySQL")
        url, options = self._url, ["--single-transaction", "--hex-blob"]
        for option, value in (("host", url.host), ("port", url.port), ("user", url.username)):
            options += [f"--{option}={value}"] if value else []
        # A password is better not in a command: the program asks for it.
        command = [program, *options, "--password", f"--result-file={name}", url.database or ""]
        raise SettingsError(
            f"PIPELINE_DB is a {kind} server, which has a program for backups: "
            f"{shlex.join(command)}"
        )

    def start_over(self) -> str:
        return "name an empty database in PIPELINE_DB: the renditions are then made again"

    def where(self, condition: str) -> dict[str, Any]:
        return {}  # there are no partial indexes: it holds all rows


def _driver(url: sa.URL) -> str:
    """The driver that an address names, or else one that is installed.

    Raises:
        DatabaseError: none is.
    """
    _, _, named = url.drivername.partition("+")
    if named:
        return "mysqldb" if named == "mysqlclient" else named
    for driver, module in DRIVERS.items():
        if importlib.util.find_spec(module):
            return driver
    raise DatabaseError(
        f"PIPELINE_DB={url.render_as_string()!r}: no driver of MySQL is installed; "
        "install one: pip install 'lockstep[mysql]'"
    )


def _set_up(connection: Any, long_keys: LongKeys) -> None:
    """Set up a connection of either driver: it compares, counts, waits and decodes as we do."""
    is_mariadb = "mariadb" in connection.get_server_info().lower()
    settings = {
        # Otherwise a text that is too long would be cut without an error.
        "sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
        "default_storage_engine": "InnoDB",
        # A connection that holds a lock may be idle for long.
        "wait_timeout": "2147483",
        "max_sort_length": "4096",
    }
    if is_mariadb:
        # A long list of keys would become a table of its own, which no index is used for.
        settings["in_predicate_conversion_threshold"] = "0"
    with connection.cursor() as cursor:
        cursor.execute(f"SET NAMES utf8mb4 COLLATE {collation(is_mariadb)}")
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(f"SET SESSION {', '.join(f'{k} = {v}' for k, v in settings.items())}")
    connection.commit()
    texts = (VARIABLE_BYTES, BYTES)
    if hasattr(connection, "decoders"):  # PyMySQL
        own = dict.fromkeys(texts, long_keys.decoded) | {DECIMAL: _number}
        connection.decoders = connection.decoders | own
    else:  # mysqlclient
        connection.converter |= {DECIMAL: _number}
        connection.converter |= dict.fromkeys(texts, ((128, long_keys.decoded), (None, str)))


def _number(text: str | bytes) -> int | Decimal:
    """A sum of integers, which the server gives as a decimal."""
    if isinstance(text, bytes):
        text = text.decode()
    return Decimal(text) if "." in text else int(text)
