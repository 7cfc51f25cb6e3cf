"""Questions about a SQLite database of data sets that plotly ships: countries, medals, an election, restaurant bills.

The right answers come from our own queries.
"""

import csv
import gzip
import io
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from sfi_sglang.agents.loop import Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.tools import ANSWER, CALCULATE, Arguments, Tool, ToolError

ABOUT = "You answer questions about a SQLite database."
DATASETS = resources.files("plotly") / "package_data" / "datasets"
TABLES = {  # each from the file of its name, whose texts SQLite converts to these types
    "gapminder": "country TEXT, continent TEXT, year INTEGER, lifeExp REAL, pop INTEGER, gdpPercap REAL",
    "medals": "nation TEXT PRIMARY KEY, gold INTEGER, silver INTEGER, bronze INTEGER",
    "election": "district TEXT, Coderre INTEGER, Bergeron INTEGER, Joly INTEGER, total INTEGER, winner TEXT",
    "tips": "total_bill REAL, tip REAL, smoker TEXT, day TEXT, time TEXT, size INTEGER",
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
        self.path = Path(self._folder.name) / "datasets.sqlite"
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for table, columns in TABLES.items():
                names = [column.split()[0] for column in columns.split(", ")]
                connection.execute(f"CREATE TABLE {table} ({columns})")
                values = ", ".join(f":{name}" for name in names)
                connection.executemany(f"INSERT INTO {table} VALUES ({values})", dataset(table))

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


def dataset(name: str) -> Iterator[dict[str, str]]:
    """The rows of one of plotly's data sets, by column."""
    text = gzip.decompress((DATASETS / f"{name}.csv.gz").read_bytes()).decode()
    return csv.DictReader(io.StringIO(text))


def data() -> Program:
    """The program over a new database."""
    database = Database()
    tools = [
        Tool("schema", "show a table's columns", Schema, database.schema),
        Tool("query", f"run one SELECT, at most {MAX_ROWS} rows are shown", Query, database.query),
        CALCULATE,
        ANSWER,
    ]
    return Program("data", ABOUT, lambda: tools, tuple(make_tasks(database)))


def make_tasks(database: Database) -> list[Task]:
    """Questions with one number or name as the answer. No SQL ends in a digit: SmolLM2 would go on with braces."""
    return [
        _task(database, "gold of Canada", "How many gold medals has Canada?", "medals",
              "SELECT gold, nation FROM medals WHERE nation = 'Canada'", "The number of gold medals is"),
        _task(database, "silver medals", "How many silver medals were won in all?", "medals",
              "SELECT sum(silver) AS silver FROM medals", "The number of silver medals is"),
        _task(database, "districts of Joly", "How many districts did Joly win?", "election",
              "SELECT count(*) AS districts FROM election WHERE winner = 'Joly'", "The number of districts is"),
        _task(database, "votes", "How many votes were counted in all?", "election",
              "SELECT sum(total) AS votes FROM election", "The number of votes is"),
        _task(database, "largest size", "What is the largest size of a party at a table?", "tips",
              "SELECT max(size) AS size FROM tips", "The largest size is"),
        _task(database, "longest life", "Which country had the longest life expectancy?", "gapminder",
              "SELECT country, max(lifeExp) AS life FROM gapminder", "The country is"),
        _task(database, "fewest countries", "Which continent has the fewest countries?", "gapminder",
              "SELECT continent FROM gapminder GROUP BY continent ORDER BY count(DISTINCT country) LIMIT 1;",
              "The continent is"),
        _task(database, "continent of 9 gold medals", "On which continent is the nation with 9 gold medals?", "medals",
              "SELECT DISTINCT continent FROM medals JOIN gapminder ON nation = country WHERE gold = 9;",
              "The continent is"),
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
