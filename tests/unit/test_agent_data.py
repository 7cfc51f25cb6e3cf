"""The agent that asks a database: it reads, and nothing else, for a bounded time."""

import pytest

from sfi_sglang.agents import data as database_program
from sfi_sglang.agents.data import MAX_ROWS, TABLES, Database, Query, data
from sfi_sglang.agents.tools import ToolError
from tests.agent_tools import caller


@pytest.fixture(scope="module")
def query():
    run = caller(data().toolbox())
    return lambda sql: run("query", sql=sql)


def test_query_shows_columns_with_values_and_is_bounded(query):
    assert query("SELECT nation, gold FROM medals WHERE gold = 9") == "nation = Canada, gold = 9"
    assert query("SELECT nation FROM medals WHERE gold = 1") == "no rows"
    many = query("SELECT pop FROM gapminder").splitlines()
    assert len(many) == MAX_ROWS + 1 and many[-1] == "(more rows were left out)"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM medals", "not authorized"),
        ("INSERT INTO medals VALUES ('a', 1, 2, 3)", "not authorized"),
        ("DROP TABLE medals", "not authorized"),
        ("ATTACH '/etc/passwd' AS other", "not authorized"),
        ("PRAGMA query_only = 0", "not authorized"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM absent", "no such table"),
        ("SELECT gold FROM medals WHERE", "incomplete input|syntax error"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT load_extension('x')", "not authorized|no such function"),
    ],
)
def test_query_refuses(query, sql, message):
    with pytest.raises(ToolError, match=message):
        query(sql)


def test_a_query_ends_at_its_time_limit(query, monkeypatch):
    monkeypatch.setattr(database_program, "MAX_SECONDS", 0.05)
    with pytest.raises(ToolError, match=r"took more than 0\.05 s"):
        query("SELECT count(*) FROM gapminder a, gapminder b, gapminder c")


def test_the_database_file_is_as_it_was_and_goes_with_its_object():
    database = Database()
    before = database.path.read_bytes()
    with pytest.raises(ToolError):
        database.rows("UPDATE medals SET gold = 0")
    assert database.path.read_bytes() == before
    path = database.path
    del database
    assert not path.exists()


@pytest.mark.parametrize("table", TABLES)
def test_cells_have_the_type_of_their_column(table):
    database = Database()
    for column in TABLES[table].split(", "):
        name, kind = column.split()[:2]
        assert database.rows(f"SELECT DISTINCT typeof({name}) FROM {table}")[1] == [(kind.lower(),)]


def test_schema_names_columns_and_rows():
    schema = caller(data().toolbox())
    assert [line.split("(")[0] for line in schema("schema", table="*").splitlines()] == list(TABLES)
    assert schema("schema", table="medals").endswith("gold INTEGER, silver INTEGER, bronze INTEGER): 3 rows")
    with pytest.raises(ToolError, match="there is no table absent"):
        schema("schema", table="absent")


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'FILE' AS other",
        "ATTACH 'file:FILE?mode=rwc' AS other",
        "VACUUM INTO 'FILE.copy'",
        "SELECT readfile('FILE')",
        "SELECT writefile('FILE.copy', 'x')",
        "SELECT edit('FILE')",
        "SELECT load_extension('FILE')",
        "SELECT * FROM fsdir('FILE')",
        "SELECT * FROM zipfile('FILE')",
        "SELECT * FROM pragma_database_list",
        "PRAGMA database_list",
        "PRAGMA temp_store_directory = 'FILE'",
        "PRAGMA journal_mode = wal",
        "CREATE VIRTUAL TABLE temp.t USING csv(filename='FILE')",
        "CREATE TEMP TABLE t AS SELECT 1",
        "SELECT 1; ATTACH 'FILE' AS other",
    ],
)
def test_no_query_reaches_another_file(tmp_path, sql):
    database, secret = Database(), tmp_path / "secret"
    secret.write_text("umbrella")
    with pytest.raises(ToolError):
        database.query(Query(sql=sql.replace("FILE", str(secret))))
    assert list(tmp_path.iterdir()) == [secret] and secret.read_text() == "umbrella"
    assert list(database.path.parent.iterdir()) == [database.path]
