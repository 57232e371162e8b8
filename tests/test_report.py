"""The report: its numbers are the store's, holes are holes, strangers' texts stay texts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from invented_month import START, Month, invent, put

from reconcile.days import parse_moment
from reconcile.errors import UsageError
from reconcile.present.report.page import report, write_report
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import NETWORKS, SUMMARY

Called = tuple[int, str, str]
HOSTILE = '<script>alert("1")</script>'
MONTH = Month(days=16, networks=40, messages=40_000, holes=(10,), half=(12,), names={2: HOSTILE})
FROM, TO = START + timedelta(days=8), START + timedelta(days=16)


class Page(HTMLParser):
    """What a test asks of a page: its tags, and the cells of its tables by caption."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words = ""
        self._rows: list[list[str]] = []
        self._caption, self._at = "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        self._at = tag if tag in ("td", "th", "caption", "style", "script") else self._at

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.tables[self._caption] = self._rows
        if tag in ("tr", "caption", "style", "script"):
            self._at = ""

    def handle_data(self, data: str) -> None:
        if self._at in ("td", "th"):
            self._rows[-1][-1] += data
        elif self._at == "caption":
            self._caption += data
        if self._at not in ("style", "script"):
            self.words += data

    def table(self, start: str) -> list[list[str]]:
        [found] = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        return found


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("month") / "store"
    invent(root, MONTH)
    return root


@pytest.fixture(scope="module")
def text(month: Path) -> str:
    return report(Settings(store=month), FROM, TO)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def summed(store: Path, what: str, days: Iterable[date] = (FROM, TO)) -> tuple[Any, ...]:
    """Sums of the summary, asked of DuckDB alone."""
    start, end = days
    [row] = duckdb.sql(
        f"SELECT {what} FROM read_parquet('{store}/summary/*/*.parquet', "
        "hive_partitioning = false) "
        f"WHERE date >= '{start}' AND date < '{end}'"
    ).fetchall()
    return tuple(row)


def test_headline_is_the_summarys(month: Path, page: Page) -> None:
    """Messages, verdicts and spend of the first screen are the sums of the table `summary`."""
    counts = summed(
        month, "sum(messages), sum(confirmed), sum(missing), sum(unknown), sum(suspect)"
    )
    for number in counts:
        assert f"{number:,}" in page.words
    [told] = summed(month, "sum(messages) - sum(pending) - sum(not_expected)")
    assert f"{counts[1] / told * 100:.1f}\u202f%" in page.words
    for currency in ("EUR", "USD"):
        [spent] = summed(month, f"sum(spend) FILTER (currency = '{currency}')")
        assert f"{spent:,.2f}" in page.words
    [mixed] = summed(month, "sum(spend)")
    assert f"{mixed:,.2f}" not in page.words


def test_rates_leave_our_own_outages_out(month: Path, page: Page) -> None:
    """The missing rate of a day is the one that the contract of `summary` says."""
    day = START + timedelta(days=9)
    [rate] = summed(
        month,
        "(sum(missing) - sum(missing_capture_outage)) / "
        "(sum(messages) - sum(pending) - sum(not_expected) - sum(missing_capture_outage))",
        (day, day + timedelta(days=1)),
    )
    [row] = [row for row in page.table("Rates a day") if row[0].startswith("10\u00a0Jan")]
    assert row[1] == f"{rate * 100:.1f}\u202f%"


def test_who_lost_them_adds_up(month: Path, page: Page) -> None:
    """The stacked bars' table adds up to the missing messages, day by day and in all."""
    rows = page.table("Missing receipts a day")[1:]
    lost = [int(cell.replace(",", "")) for row in rows if len(row) == 6 for cell in row[1:]]
    assert [sum(lost)] == list(summed(month, "sum(missing)"))


def test_reasons_and_codes_are_the_tables(month: Path, page: Page) -> None:
    """Reasons by first reason, error codes with the guide's meaning and advice."""
    rows = {row[0]: row for row in page.table("What made each verdict")[1:]}
    [lost] = summed(month, "sum(missing_lost_webhook)")
    assert rows["lost_webhook"][2] == f"{lost:,}"
    assert "duplicate_receipt" not in rows
    codes = {row[0]: row for row in page.table("Status and err-code")[1:]}
    assert codes["failed · 9"][2:] == [
        "Illegal number (permanent)",
        "Remove it: the user opted out.",
    ]


def test_hole_is_no_zero(page: Page) -> None:
    """A day that is not published is a hole in every map, chart table and sentence."""
    for caption, rows in page.tables.items():
        if re.match(r"(?i)(more )?(countries|networks): ", caption):
            at = rows[0].index("01-11")
            assert {row[at] for row in rows[1:]} == {"?"}, caption
            assert not any("?" in row[at - 1] for row in rows[1:])
    assert ["11\u00a0Jan\u00a02026", "hole: not judged"] in page.table("Missing receipts a day")
    assert "Not judged, and in no sum: 11\u00a0Jan\u00a02026." in page.words
    assert "Not downloaded whole, so their sums are too low: 13\u00a0Jan\u00a02026." in page.words
    assert "only rates are compared" in page.words


def test_every_place_is_in_the_maps(month: Path, page: Page) -> None:
    """All forty networks have their row, in sight or behind a fold, and all countries."""
    names = [row[0] for start in ("Networks: missing", "More networks: missing")
             for row in page.table(start)[1:]]  # fmt: skip
    found = duckdb.sql(f"SELECT count(DISTINCT network_code) FROM '{month}/summary/*/*.parquet'")
    [most] = found.fetchall()[0]
    assert len(names) == len(set(names)) == most == MONTH.networks


def test_strangers_texts_stay_texts(text: str, page: Page) -> None:
    """A network that is named like a script is shown by that name, and is none."""
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts == [{}]
    assert HOSTILE not in text
    assert page.words.count(HOSTILE) >= 4  # in short, map, card, table of networks, times


def test_network_is_forbidden_and_not_needed(text: str, page: Page) -> None:
    """No address of anything outside of the file; and a policy that would refuse it."""
    assert not re.search(r"(?:https?:|url\(|@import|//[a-z])", re.sub(r"(?m)^ *// .*$", "", text))
    for _, attrs in page.tags:
        assert not {"src", "srcset", "data", "action", "poster", "style"} & set(attrs)
        assert (attrs.get("href") or "#").startswith("#")
    [policy] = [attrs["content"] for tag, attrs in page.tags
                if attrs.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")


def test_odd_networks_come_with_their_evidence(month: Path, page: Page) -> None:
    """A card a network: the sentence, what it was before, what is at stake; the suspect first."""
    [evidence] = duckdb.sql(
        f"SELECT evidence FROM read_parquet('{month}/networks/*/*.parquet', "
        "hive_partitioning = false) "
        f"WHERE date = '{TO - timedelta(days=1)}' AND span = '1d' AND network_name = '{HOSTILE}'"
    ).fetchall()[0]
    assert evidence in page.words
    assert page.words.index("suspect alert") < page.words.index("watch odd on")


def test_what_changed_is_counted(page: Page) -> None:
    """The last run's changes, from what to what and why."""
    rows = page.table("Messages whose verdict")[1:]
    assert ["pending", "confirmed", "a receipt came", "900"] in rows
    assert len(rows) == 4


@pytest.mark.slow
def test_same_store_same_bytes(month: Path, text: str) -> None:
    """Made again, by another process with another hash seed, it is the same text."""
    code = (
        "import sys; from datetime import date; from pathlib import Path\n"
        "from reconcile.present.report.page import report\n"
        "from reconcile.settings import Settings\n"
        f"sys.stdout.write(report(Settings(store=Path({str(month)!r})), "
        f"date.fromisoformat('{FROM}'), date.fromisoformat('{TO}')))"
    )
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code]
    again = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert again.stdout.decode() == text


def test_light_dark_print_and_structure(text: str, page: Page) -> None:
    """Both schemes, a print sheet, landmarks, headings in order, captions and scopes."""
    assert "@media (prefers-color-scheme:dark)" in text
    assert "@media print" in text
    names = [tag for tag, _ in page.tags]
    assert {"header", "nav", "main", "footer"} <= set(names)
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert names.count("caption") == names.count("table")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_default_is_the_last_published_days(month: Path) -> None:
    """Without days: the last fourteen that are published, the holes between them included."""
    made = Page(report(Settings(store=month)))
    [heading] = re.findall(r"(\d+\u00a0Jan\u00a02026) to (\d+\u00a0Jan\u00a02026)", made.words[:60])
    assert heading == ("2\u00a0Jan\u00a02026", "16\u00a0Jan\u00a02026")


def test_one_day(month: Path) -> None:
    """A report of a single day; of the day before nothing is published in another store."""
    whole = report(Settings(store=month), START, START + timedelta(days=1))
    assert "Nothing is published of 31\u00a0Dec\u00a02025" in whole
    assert "there is nothing to compare with" in whole


def test_compared_with_as_many_days_before(month: Path) -> None:
    """Where both spans are whole, counts are compared too."""
    days = START + timedelta(days=4), START + timedelta(days=8)
    now, before = (summed(month, "sum(messages)", span)[0] for span in (days, (START, days[0])))
    change = (now - before) / before * 100
    sign = "+" if change > 0 else "−"
    assert f"{sign}{abs(change):.1f}\u202f%" in report(Settings(store=month), *days)


def test_day_without_messages(month: Path, tmp_path: Path) -> None:
    """A published day without a message is neither a hole nor a division by zero."""
    root = tmp_path / "store"
    shutil.copytree(month, root)
    day, store = START + timedelta(days=16), Store.open(root)
    put(store, SUMMARY, day, {"date": []}, parse_moment("2026-01-18T02:30:00Z"))
    alone = report(Settings(store=root), day, day + timedelta(days=1))
    assert "No message was sent on 1 published day." in alone
    both = Page(report(Settings(store=root), day - timedelta(days=1), day + timedelta(days=1)))
    assert {row[-1] for row in both.table("Countries: missing")[1:]} == {"·"}
    assert "Without a message: 17\u00a0Jan\u00a02026." in both.words


def test_store_from_before_networks(month: Path, tmp_path: Path) -> None:
    """A store whose networks were never judged says so, in place of calling them honest."""
    root = tmp_path / "store"
    shutil.copytree(month, root)
    for table in ("networks", "concentrations", "changes", "campaigns"):
        shutil.rmtree(root / table)
    made = report(Settings(store=root), FROM, TO)
    assert "Networks as a whole were not judged on these days" in made
    assert "No network was odd" not in made
    assert "No delivery times are known" in made


def test_nothing_there(month: Path, tmp_path: Path) -> None:
    """An empty store, a span within a hole, too many days: one sentence each."""
    Store.open(tmp_path / "empty", create=True)
    with pytest.raises(UsageError, match=r"nothing is published in .*: `reconcile run`"):
        report(Settings(store=tmp_path / "empty"))
    hole = START + timedelta(days=10)
    with pytest.raises(UsageError, match="published days lie between 2026-01-01 and 2026-01-16"):
        report(Settings(store=month), hole, hole + timedelta(days=1))
    with pytest.raises(UsageError, match="ask for 100 or less"):
        report(Settings(store=month), START, START + timedelta(days=101))


def test_currency_that_nobody_names(month: Path, tmp_path: Path) -> None:
    """Money whose currency is unknown is said to be so, and added to no other."""
    root = tmp_path / "store"
    shutil.copytree(month, root)
    row = {"date": [START], "country": ["DE"], "network_code": ["26291"], "currency": ["unknown"],
           "messages": [2], "confirmed": [2], "spend": [Decimal("0.5")],
           "spend_unconfirmed": [Decimal(0)], "account_id": ["a"]}  # fmt: skip
    put(Store.open(root), SUMMARY, START, row, parse_moment("2026-01-02T02:30:00Z"))
    made = report(Settings(store=root), START, START + timedelta(days=1))
    assert "of unknown currency" in made
    assert "a currency that no record names" in made


def test_command_on_the_demo(
    demo_store: Path, console: Callable[..., Called], tmp_path: Path
) -> None:
    """`reconcile report` on the demo's store: a file, its size on stdout, and the real counts."""
    code, out, err = console("report", "--store", str(demo_store), "-o", "made.html")
    made = Path("made.html")
    assert (code, err) == (0, "")
    assert out == f"made.html: {made.stat().st_size:,} bytes\n"
    [messages] = summed(demo_store, "sum(messages)", (date(2026, 1, 1), date(2027, 1, 1)))
    days = len(Store.open(demo_store).days(SUMMARY))
    assert f"Of {messages} messages on {days} days" in made.read_text("utf-8")
    assert not list(tmp_path.glob(".made*"))


def test_command_refuses_in_one_line(month: Path, console: Callable[..., Called]) -> None:
    """A folder that is not there, a folder as file, no store: exit 2 and one line each."""
    for args, words in (
        (("--store", str(month), "-o", "nowhere/report.html"), "is no folder"),
        (("--store", str(month), "-o", "."), "is a folder"),
        (("--store", "none"), "no store at none"),
        (("--store", str(month), "--date", "2026-01-11"), "nothing is published"),
    ):
        code, out, err = console("report", *args)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert words in err


@pytest.mark.slow
def test_run_ends_with_a_report(
    console: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --report` writes it after the night, of what the night has published."""
    generate(tmp_path / "world", messages=300, days=1, seed=3)
    with Sandbox(tmp_path / "world", pending_seconds=0.05) as served:
        monkeypatch.setenv("VONAGE_API_KEY", served.api_key)
        monkeypatch.setenv("VONAGE_API_SECRET", served.api_secret)
        told = console(
            "run", "--date", "2026-01-05", "--as-of", "2026-01-20T02:30:00Z", "--base-url",
            served.base_url, "--dlr", f"{tmp_path}/world/dlr/*", "--report", "night.html",
        )  # fmt: skip
    assert told == (0, "", "")
    [messages] = summed(Path("store"), "sum(messages)", (date(2026, 1, 5), date(2026, 1, 6)))
    assert f"Of {messages} messages on 1 day," in Path("night.html").read_text("utf-8")


def test_run_refuses_a_report_before_its_work(console: Callable[..., Called]) -> None:
    """`run --report` into a folder that is not there is told before Vonage is asked anything."""
    code, _, err = console("run", "--store", "fresh", "--report", "nowhere/report.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "is no folder" in err
    assert not Path("fresh").exists()


def test_damaged_file_is_named(month: Path, tmp_path: Path, console: Callable[..., Called]) -> None:
    """A partition that is no parquet: exit 6 with its table, and no report."""
    root = tmp_path / "store"
    shutil.copytree(month, root)
    Store.open(root).path(NETWORKS, TO - timedelta(days=1)).write_bytes(b"nothing")
    code, _, err = console("report", "--store", str(root), "-o", "made.html")
    assert (code, err.count("\n")) == (6, 1)
    assert "table networks cannot be read" in err
    assert not Path("made.html").exists()


def test_extra_is_named_where_it_lacks(month: Path, tmp_path: Path) -> None:
    """Without the packages of the extra: one line that says what to install."""
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'vl_convert' else real(name, *a)\n"
        f"sys.argv = ['reconcile', 'report', '--store', {str(month)!r}]\n"
        "from reconcile.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert ended.returncode == 2
    assert "pip install 'dlr-reconcile[report]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_large_month_is_small_enough(tmp_path: Path) -> None:
    """Thirty days of 400 networks: at most 3 MB."""
    invent(tmp_path / "store", Month(days=30, networks=400))
    size = write_report(Settings(store=tmp_path / "store"), tmp_path / "report.html",
                        START, START + timedelta(days=30))  # fmt: skip
    assert 300_000 < size < 3_000_000
