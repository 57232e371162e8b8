"""`show`: every view and every table, filters, terminals of any width, and JSON by its schema."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from terminals import on_terminal

from reconcile.cli import BY
from reconcile.present.schema import schema
from reconcile.present.text import sparkline
from reconcile.present.views import VIEWS
from reconcile.tables import TABLES, Table

Called = tuple[int, str, str]
DOCUMENT = Path(__file__).parents[1] / "docs" / "show.schema.json"
EVIL = "Evil\x1b[2J\r\nMobile\u202e"


@pytest.fixture
def show(
    console: Callable[..., Called], demo_store: Path, clean_environment: None
) -> Callable[..., Called]:
    """`reconcile show` of the demo's store, or of another."""

    def call(*args: str, store: Path = demo_store) -> Called:
        return console("show", "--store", str(store), *args)

    return call


@pytest.fixture(scope="module")
def invented_store(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every table has rows: one with every column, one with those that must be."""
    root = tmp_path_factory.mktemp("invented")
    (root / "store.json").write_bytes((demo_store / "store.json").read_bytes())
    for table in TABLES:
        part = "day=2026-10-12" if table.partition == "day" else "as_of=20261013T000000Z"
        path = root / table.name / part / f"{table.name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(_rows(table), table.schema), path)
    return root


def _rows(table: Table) -> list[dict[str, Any]]:
    full = {column.name: _value(column.type, column.name) for column in table.columns}
    bare = {c.name: None if c.nullable else full[c.name] for c in table.columns}
    return [full, bare]


def _value(kind: pa.DataType, name: str) -> Any:
    """Some value of a type."""
    if pa.types.is_list(kind):
        return [_value(kind.value_type, name)] * 2
    if pa.types.is_struct(kind):
        return {field.name: _value(field.type, field.name) for field in kind}
    for test, value in (
        (pa.types.is_decimal, Decimal("12345678.00000001")),
        (pa.types.is_timestamp, datetime(2026, 10, 12, 1, 2, 3, 4000, tzinfo=UTC)),
        (pa.types.is_date, date(2026, 10, 12)),
        (pa.types.is_integer, 7),
        (pa.types.is_floating, 0.25),
        (pa.types.is_boolean, True),
        (pa.types.is_binary, b"\xff\x1b[2J"),
    ):
        if test(kind):
            return value
    return "suspect" if name == "network_verdict" else EVIL


def strict() -> Draft202012Validator:
    """The published schema, with nothing beside what it names."""
    told = schema()
    for shape in told["$defs"].values():
        shape["additionalProperties"] = False
    return Draft202012Validator(
        told | {"additionalProperties": False}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def test_published_schema_is_fresh() -> None:
    """docs/show.schema.json is what `python -m reconcile.present.schema` writes, and a schema."""
    told = json.loads(DOCUMENT.read_text("utf-8"))
    assert told == schema()
    Draft202012Validator.check_schema(told)


@pytest.mark.parametrize("asked", [
    *(["--by", by] for by in BY if by != "campaign"), ["--networks"], ["--by", "hour", "--date",
    "2026-10-12"], ["--by", "reason", "--worst", "1"], ["--where", "messages < 0"],
], ids=" ".join)  # fmt: skip
def test_views_keep_to_the_schema(show: Callable[..., Called], asked: list[str]) -> None:
    """What each view prints as JSON is valid, and its rows have no key that the schema lacks."""
    code, out, _ = show(*asked, "--format", "json")
    assert code == 0
    strict().validate(json.loads(out))


@pytest.mark.parametrize("asked", [
    *(["--table", table.name] for table in TABLES), ["--by", "campaign"], ["--networks"],
], ids=" ".join)  # fmt: skip
def test_tables_keep_to_the_schema(
    show: Callable[..., Called], invented_store: Path, asked: list[str]
) -> None:
    """So does every table, with every column filled, and with nothing but what must be there."""
    code, out, err = show(*asked, "--format", "json", store=invented_store)
    assert (code, err) == (0, "")
    told = json.loads(out)
    strict().validate(told)
    assert len(told["rows"]) == (1 if asked == ["--by", "campaign"] else 2)
    for broken in ({"rows": [{}]}, {"schema": "reconcile.show/2"}, {"partitions": [7]}):
        assert not strict().is_valid(told | broken)


def rows_of(show: Callable[..., Called], *args: str) -> list[dict[str, Any]]:
    code, out, err = show(*args, "--format", "json")
    assert (code, err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(out)["rows"]
    return rows


@pytest.mark.slow
def test_all_views_count_the_same_messages(show: Callable[..., Called]) -> None:
    """Networks, countries, days and hours are the same messages, added up otherwise."""
    names = ("messages", "missing", "unknown", "suspect", "confirmed", "pending", "not_expected")
    sums = {by: [sum(row[name] for row in rows_of(show, "--by", by)) for name in names]
            for by in ("network", "country", "day", "hour")}  # fmt: skip
    assert sums["network"][0] == 74
    assert all(found == sums["network"] for found in sums.values())
    money = [sum(Decimal(row["spend_unconfirmed"]) for row in rows_of(show, "--by", by))
             for by in ("network", "hour")]  # fmt: skip
    assert money[0] == money[1] > 0


def test_hours_are_those_of_the_messages(show: Callable[..., Called]) -> None:
    """Each hour of the day has the messages that were received in it, over all days."""
    hours = {row["hour"]: row["messages"] for row in rows_of(show, "--by", "hour")}
    told: dict[str, int] = {}
    for row in rows_of(show, "--table", "verdicts"):
        hour = row["received_at"][11:13] + ":00"
        told[hour] = told.get(hour, 0) + 1
    assert hours == told


def test_worst_days_are_the_worst(show: Callable[..., Called]) -> None:
    """Days come in order, the worst of them by what is unconfirmed."""
    days = rows_of(show, "--by", "day")
    assert [row["date"] for row in days] == sorted(row["date"] for row in days)
    worst = rows_of(show, "--by", "day", "--worst", "1")
    assert worst[0]["unconfirmed"] == max(row["unconfirmed"] for row in days)
    assert worst[0]["date"] != days[0]["date"]


def test_trend_is_each_days_share(show: Callable[..., Called]) -> None:
    """A trend has a number a day: what is unconfirmed of what can be told; null where nothing."""
    told = json.loads(show("--by", "country", "--format", "json")[1])
    [kenya] = [row for row in told["rows"] if row["country"] == "KE"]
    for day, share in zip(told["trend_days"], kenya["trend"], strict=True):
        rows = rows_of(show, "--table", "verdicts", "--where",
                f"country = 'KE' AND received_at::date = '{day}'")  # fmt: skip
        due = [row for row in rows if row["verdict"] not in ("pending", "not_expected")]
        bad = [row for row in due if row["verdict"] != "confirmed"]
        assert share == (len(bad) / len(due) if due else None)
    assert any(share for share in kenya["trend"])


def test_where_is_asked_of_each_row(show: Callable[..., Called]) -> None:
    """A filter picks rows before they are added up, in every view and table."""
    [germany] = rows_of(show, "--by", "country", "--where", "country = 'DE'")
    assert germany["country"] == "DE"
    lost = rows_of(show, "--table", "verdicts", "--where", "list_contains(reasons,'lost_webhook')")
    assert {row["verdict"] for row in lost} == {"missing"}
    [reason] = rows_of(show, "--by", "reason", "--where", "reason = 'lost_webhook'")
    assert reason["messages"] == len(lost) > 0
    missing = rows_of(show, "--by", "hour", "--where", "verdict = 'missing'")
    assert sum(row["messages"] for row in missing) == sum(r["missing"] for r in rows_of(show))


@pytest.mark.parametrize(("asked", "says"), [
    (["--where", "colour = 'red'"], "table summary has no column colour"),
    (["--where", "missing >"], "syntax error"),
    (["--where", "country"], "no condition"),
    (["--table", "verdicts", "--where", "1=1; DROP TABLE t"], "cannot be used"),
    (["--networks", "--where", "1"], "no condition"),
    (["--by", "campaign"], "the setting `campaign` makes it"),
    (["--table", "verdict"], "there is no table verdict"),
    (["--table", "sent"], "nothing is published for these days"),
    (["--date", "2020-01-01"], "nothing is published for these days"),
    (["--table", "verdicts", "--by", "day"], "give one of them"),
    (["--networks", "--by", "day"], "give one of them"),
], ids=str)  # fmt: skip
def test_what_cannot_be_shown_is_said(
    show: Callable[..., Called], asked: list[str], says: str
) -> None:
    """Each wrong question is answered with one line and exit 2."""
    code, out, err = show(*asked)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize("width", [40, 57, 80, 100, 120, 200])
@pytest.mark.parametrize("asked", [
    ["--by", "network"], ["--by", "day"], ["--by", "error-code"], ["--table", "verdicts"],
    ["--table", "networks"],
], ids=" ".join)  # fmt: skip
def test_any_terminal_has_room(
    show: Callable[..., Called], asked: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer than the terminal, and no number or id is broken in two."""
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = show(*asked, "--worst", "4")
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    rows = list(csv.DictReader(io.StringIO(show(*asked, "--worst", "4", "--format", "csv")[1])))
    names = ("messages", "network_code", "message_id", "confirmed", "date", "receipt_error_code")
    for value in {row[name] for row in rows for name in names if row.get(name)}:
        assert value in out.split()


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "is_coloured"), [
    ({"TERM": "xterm-256color"}, True),
    ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
    ({"TERM": "dumb"}, False),
], ids=str)  # fmt: skip
def test_colour_is_for_terminals(
    demo_store: Path, environment: dict[str, str], is_coloured: bool
) -> None:
    """A terminal gets colour unless NO_COLOR or TERM says otherwise; a pipe never."""
    command = [sys.executable, "-m", "reconcile.cli", "show", "--store", str(demo_store)]
    around = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    around |= {"COLUMNS": "120"} | environment
    seen = on_terminal(command, around)
    assert (b"\x1b[" in seen) is is_coloured
    piped = subprocess.run(command, capture_output=True, check=True, env=around)
    assert b"\x1b" not in piped.stdout
    assert piped.stdout.splitlines()[0] in seen


@pytest.mark.parametrize("asked", [
    *(["--table", table.name] for table in TABLES), ["--by", "network"], ["--networks"],
], ids=" ".join)  # fmt: skip
def test_no_text_of_others_moves_the_terminal(
    show: Callable[..., Called], invented_store: Path, asked: list[str]
) -> None:
    """Names that hold escape sequences, line ends or turns of direction are shown as they are."""
    for form in ("table", "markdown"):
        code, out, _ = show(*asked, "--format", form, store=invented_store)
        assert code == 0
        assert not {"\x1b", "\r", "\u202e"} & set(out)


def test_rows_of_a_table_are_few_on_a_terminal(show: Callable[..., Called]) -> None:
    """A terminal gets twenty rows and how many there are; programs get all."""
    assert "20 of 74 rows of verdicts" in show("--table", "verdicts")[1]
    assert len(rows_of(show, "--table", "verdicts")) == 74
    assert len(rows_of(show, "--table", "verdicts", "--worst", "3")) == 3


def test_a_store_of_one_day(show: Callable[..., Called], invented_store: Path) -> None:
    """One day has no trend, in no form; everything else is there."""
    told = json.loads(show("--by", "country", "--format", "json", store=invented_store)[1])
    assert "trend_days" not in told
    assert told["rows"]
    assert "trend" not in told["rows"][0]
    assert "trend" not in show("--by", "country", store=invented_store)[1]


@pytest.mark.parametrize("asked", [
    *(["--by", by] for by in BY), ["--networks"], ["--table", "verdicts"],
], ids=" ".join)  # fmt: skip
def test_an_empty_store(
    show: Callable[..., Called], demo_store: Path, tmp_path: Path, asked: list[str]
) -> None:
    """A store in which nothing was published yet says so."""
    root = tmp_path / "empty"
    root.mkdir()
    (root / "store.json").write_bytes((demo_store / "store.json").read_bytes())
    code, out, err = show(*asked, store=root)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "nothing is published" in err


def test_days_without_messages(show: Callable[..., Called]) -> None:
    """Days on which nobody sent anything are published as such: no row, and no error."""
    code, out, err = show("--from", "2026-10-08", "--to", "2026-10-10", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == []
    code, out, _ = show("--from", "2026-10-08", "--to", "2026-10-10")
    assert (code, "No row: nobody sent anything" in out) == (0, True)


def test_showing_loads_nothing_heavy(demo_store: Path) -> None:
    """`show` answers at once: neither pandas nor Ibis nor SciPy is loaded for it."""
    script = (
        "import sys; from reconcile import cli\n"
        f"sys.argv = ['reconcile', 'show', '--store', {str(demo_store)!r}]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'pandas', 'ibis', 'scipy', 'requests'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_views_are_those_of_the_command_line() -> None:
    """`--by` knows every view, in the order of its help."""
    assert list(VIEWS) == list(BY)


def test_sparkline_shows_what_is_there() -> None:
    """Bars from nothing to the highest; a dot is no value, and all zero is flat."""
    assert sparkline([0.0, 0.5, 1.0, None]) == "▁▅█·"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
