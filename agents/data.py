"""Questions about a SQLite database of what this Python knows of characters, HTML, HTTP and media types.

The database is built from the standard library, so every machine has it. The right answers come from our own queries.
"""

import html.entities
import http
import mimetypes
import sqlite3
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import Field

from sfi_sglang.agents.loop import Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.tools import ANSWER, CALCULATE, Arguments, Tool, ToolError

ABOUT = "You answer questions about a SQLite database."
TABLES = {
    "characters": "code INTEGER PRIMARY KEY, name TEXT, category TEXT, width TEXT",
    "entities": "entity TEXT PRIMARY KEY, code INTEGER",
    "statuses": "code INTEGER PRIMARY KEY, phrase TEXT, description TEXT",
    "media_types": "extension TEXT PRIMARY KEY, type TEXT",
}
MAX_ROWS, MAX_CELL = 20, 80
MAX_SECONDS, MAX_BYTES = 2.0, 100_000  # of a query; of a text, a blob or the SQL
CHECK_EVERY = 10_000  # instructions of SQLite's virtual machine between two looks at the clock
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


class Schema(Arguments):
    table: str = Field(min_length=1, max_length=40, description="name of a table, or * for all")


class Query(Arguments):
    sql: str = Field(min_length=6, max_length=300, description="one SELECT")


class Database:
    """A SQLite file that lives as long as this object. Each query has its own connection: threads may share this."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sfi-data-")
        self.path = Path(self._folder.name) / "python.sqlite"
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for table, rows in contents().items():
                connection.execute(f"CREATE TABLE {table} ({TABLES[table]})")
                marks = ", ".join("?" * len(TABLES[table].split(",")))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def schema(self, call: Schema) -> str:
        """Columns and row counts."""
        names = [table for table in TABLES if call.table in ("*", table)]
        if not names:
            raise ToolError(f"there is no table {call.table}, but {', '.join(TABLES)}")
        counts = {name: self.rows(f"SELECT count(*) FROM {name}")[1][0][0] for name in names}
        return "\n".join(f"{name}({TABLES[name]}): {counts[name]} rows" for name in names)

    def query(self, call: Query) -> str:
        """Up to MAX_ROWS rows, each value with its column's name."""
        columns, rows = self.rows(call.sql)
        shown = [
            ", ".join(f"{column} = {str(cell)[:MAX_CELL]}" for column, cell in zip(columns, row, strict=True))
            for row in rows[:MAX_ROWS]
        ]
        more = ["(more rows were left out)"] if len(rows) > MAX_ROWS else []
        return "\n".join([*shown, *more]) or "no rows"

    def rows(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and at most MAX_ROWS + 1 rows.

        Raises:
            ToolError: SQLite refused it, it would do more than read, or it took more than MAX_SECONDS.
        """
        deadline = time.monotonic() + MAX_SECONDS
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
            connection.set_authorizer(_allow_reading)  # a read-only connection may still ATTACH other files
            connection.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_EVERY)
            try:
                cursor = connection.execute(sql)
                return [column[0] for column in cursor.description or ()], cursor.fetchmany(MAX_ROWS + 1)
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                late = time.monotonic() > deadline
                raise ToolError(f"took more than {MAX_SECONDS:g} s" if late else str(error)) from None


def _allow_reading(action: int, *details: Any) -> int:
    return sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY


def contents() -> dict[str, Iterable[tuple[Any, ...]]]:
    """The rows of each of TABLES."""
    characters = ((code, unicodedata.name(chr(code), None)) for code in range(sys.maxunicode + 1))
    return {
        "characters": (
            (code, name, unicodedata.category(chr(code)), unicodedata.east_asian_width(chr(code)))
            for code, name in characters
            if name
        ),
        "entities": html.entities.name2codepoint.items(),
        "statuses": ((status.value, status.phrase, status.description) for status in http.HTTPStatus),
        "media_types": mimetypes.MimeTypes().types_map[True].items(),
    }


def data() -> Program:
    """The program over a new database, which takes about a second to build."""
    database = Database()
    tools = [
        Tool("schema", "show a table's columns", Schema, database.schema),
        Tool("query", f"run one SELECT, at most {MAX_ROWS} rows are shown", Query, database.query),
        CALCULATE,
        ANSWER,
    ]
    return Program("data", ABOUT, lambda: tools, tuple(make_tasks(database)))


def make_tasks(database: Database) -> list[Task]:
    """Questions with one number or name as the answer."""
    return [
        _task(database, "currency signs", "How many characters have the category Sc?", "characters",
              "SELECT count(*) AS number, category FROM characters WHERE category LIKE '%Sc%'",
              "The number of characters is"),
        _task(database, "code of hearts", "What code has the HTML entity hearts?", "entities",
              "SELECT code, entity FROM entities WHERE entity LIKE '%hearts%'", "The code of hearts is"),
        _task(database, "misdirected request", "Which HTTP status code means Misdirected Request?", "statuses",
              "SELECT code FROM statuses WHERE phrase = 'Misdirected Request'", "The status code is"),
        _task(database, "loop detected", "Which HTTP status code means Loop Detected?", "statuses",
              "SELECT code, phrase FROM statuses WHERE phrase LIKE '%Loop%'", "The status code is"),
        _task(database, "type of .csv", "Which media type has the extension .csv?", "media_types",
              "SELECT type, extension FROM media_types WHERE extension LIKE '%csv%'", "The media type is"),
        _task(database, "name of spades", "Which character name has the HTML entity spades?", "entities",
              "SELECT name, entity FROM entities JOIN characters USING (code) WHERE entity LIKE '%spades%'",
              "The name is"),
        _task(database, "largest category", "Which category has the most characters?", "characters",
              "SELECT category, count(*) AS number FROM characters GROUP BY category ORDER BY number DESC LIMIT 1",
              "The category is"),
    ]  # fmt: skip


def _task(database: Database, name: str, question: str, table: str, sql: str, sentence: str) -> Task:
    """The plan gives the query, not its result."""
    expected = database.rows(sql)[1][0][0]
    ending = "number" if isinstance(expected, int) else "result"
    plan = (
        Step("schema", f'The table is "{table}".'),
        Step("query", f'The sql is "{sql}".'),
        Step("answer", f"Complete this text with the {ending}: {sentence}"),
    )
    return Task(name, question, expected, plan)
