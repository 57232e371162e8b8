"""`explain`: it never says other than the tables, and what it says can be read and parsed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reconcile import judging
from reconcile.days import parse_moment
from reconcile.explaining import held
from reconcile.explaining.explain import explain
from reconcile.explaining.held import LOOKED_AT
from reconcile.explaining.refresh import refresh
from reconcile.explaining.told import Alone, Explained, Explanation, Given
from reconcile.judge import rules
from reconcile.present.catalogue import rules_frame
from reconcile.present.explained import duration, explained
from reconcile.run import looked_at, opened
from reconcile.settings import load
from reconcile.store import Store
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, SENT, VERDICTS
from tests.judge_support import AS_OF, arrow, fill_store, receipt, record
from tests.test_refreshing import message, world_of
from tests.test_refreshing import receipt as captured

Called = tuple[int, str, str]
NOW = datetime(2026, 10, 20, tzinfo=UTC)


def ask(store: Path, *ids: str, as_of: datetime | None = None, now: datetime = NOW,
        **given: Any) -> Explanation:  # fmt: skip
    """Explains messages of a store, with the settings that it comes with."""
    config = store.parent / "reconcile.toml"
    settings = load(config) if config.exists() else load(store=store)
    with looked_at(settings, now) as this:
        return explain(this, Given(ids, **given), as_of)


def published(store: Path, table: Any) -> list[dict[str, Any]]:
    files = sorted((store / table.name).rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def messages(found: Explanation) -> list[Explained]:
    told = [each for each in found.told if isinstance(each, Explained)]
    assert len(told) == len(found.told)
    return told


def one(found: Explanation) -> Explained:
    [each] = messages(found)
    return each


def answer(each: Explained) -> tuple[str, list[str]]:
    assert each.judged is not None
    return each.judged["verdict"], each.judged["reasons"]


def says_what_the_tables_say(found: Explanation) -> None:
    """Verdict, reasons, counts and the deciding receipt are those of `verdicts`."""
    for each in messages(found):
        assert each.published is not None
        assert each.judged is not None
        assert answer(each) == (each.published.verdict, each.published.reasons), each.message_id
        mine = [heard for heard in each.receipts if not heard.ignored]
        assert len(mine) == each.judged["receipts"], each.message_id
        assert sum(bool(h.repeats) for h in mine) == each.judged["duplicates"], each.message_id
        assert sum(heard.decides for heard in mine) == bool(mine), each.message_id
        told = {held.name for held in each.rules if held.counts and held.name}
        assert told == set(each.judged["reasons"]), each.message_id
        assert all(held.sentence for held in each.rules), each.message_id


# --- what rules looked at ---------------------------------------------------------------------


def test_every_rule_says_what_it_looked_at() -> None:
    """A new rule or reason of the grid must be entered in the table."""
    names = {rule.name for rule in (*rules.RULES, rules.OUTAGE)} | set(rules.GRID_SENTENCES)
    assert names <= set(LOOKED_AT)


def test_what_rules_looked_at_is_there(demo_store: Path) -> None:
    """Each column that the table names is one of a judged message, or of a receipt."""
    each = one(ask(demo_store, "0B00000127FDC130"))
    assert each.judged is not None
    facts = {"as_of", "elapsed_ms", "within_ms", "expires_at", "matures_at", "grace_ends_at",
             "captured_after_ms", "too_fast_ms"}  # fmt: skip
    inner = {*each.receipts[0].row, "country"}
    for name, columns in LOOKED_AT.items():
        for column in columns:
            outer, _, of_receipt = column.partition(".")
            known = of_receipt in inner if of_receipt else outer in facts | set(each.judged)
            assert known or column == "capability", (name, column)


def test_rules_of_tomorrow_show_no_values() -> None:
    """A rule that the table does not know yet is told, without what it looked at."""
    assert held._seen("a_rule_of_tomorrow", {"status": "delivered"}, []) == ({}, [])


def test_grid_is_named_as_it_is() -> None:
    """The columns of the grid have names here, since there they have none."""
    assert {len(row) - 1 for row in rules.GRID} == {len(held.GRID_COLUMNS)}
    frame = rules_frame()
    assert held.CONFIRMED in set(frame[frame["verdict"] == "confirmed"]["holds when"])


# --- the tables -------------------------------------------------------------------------------


@pytest.mark.slow
def test_sample_says_what_the_tables_say(demo_store: Path) -> None:
    """All messages of the sample, asked for at once."""
    ids = [row["message_id"] for row in published(demo_store, VERDICTS)]
    found = ask(demo_store, *ids)
    assert (len(found.told), found.unknown) == (len(ids), [])
    says_what_the_tables_say(found)


@pytest.mark.slow
def test_at_any_moment_as_the_core_says(demo_store: Path) -> None:
    """The core over a few rows says of each what the core over the whole day says."""
    ids = [row["message_id"] for row in published(demo_store, VERDICTS)]
    settings = load(demo_store.parent / "reconcile.toml")
    for text in ("2026-10-13T12:00:00.250Z", "2026-10-16T09:00:00Z"):
        moment = parse_moment(text)
        with looked_at(settings, moment) as this:
            found = messages(explain(this, Given(tuple(ids)), moment))
            wanted: dict[str, tuple[str, list[str]]] = {}
            compiled = False
            days = {str(each.record["received_at"].date()) for each in found}
            for day in days:
                with judging.Bench(this.store, this.con, this.ledger, settings, moment,
                                   frozenset()) as bench:  # fmt: skip
                    bench.lay("records_of_day", this.store.query(RECORDS, [day]))
                    parts = judging.receipt_days(bench, date.fromisoformat(day))
                    bench.lay("receipts_in_reach", this.store.query(RECEIPTS, parts))
                    if not compiled:  # once, over views that are laid anew for each day
                        compiled = True
                        rows = judging._verdicts(bench, several_owners=True, logged=False)
                        this.con.create_view("now", rows)
                    rows = this.con.con.execute("SELECT message_id, verdict, reasons FROM now")
                    wanted |= {row[0]: (row[1], row[2]) for row in rows.fetchall()}
        assert {e.message_id: answer(e) for e in found if e.judged} == wanted
        assert wanted


@pytest.mark.slow
def test_shared_ids_say_what_the_tables_say(tmp_path: Path, clean_environment: None) -> None:
    """Ids of two accounts and of two products: each record with its own receipts."""
    at = AS_OF - timedelta(days=5)
    store = fill_store(
        tmp_path / "store",
        [record("AA"), record("AA", account_id="a2", status="failed"), record("BB"),
         record("BB", account_id="a2"), record("CC"), record("CC", product="MESSAGES")],
        [receipt("AA", account_id="a1", pushed_at=at + timedelta(seconds=7)),
         receipt("AA", account_id="a2", pushed_at=at + timedelta(seconds=8)),
         receipt("BB", pushed_at=at + timedelta(seconds=7)),
         receipt("CC", account_id="a1", pushed_at=at + timedelta(seconds=7))],
    )  # fmt: skip
    judge(store, at.date())
    found = ask(store.root, "AA", "BB", "CC")
    says_what_the_tables_say(found)
    told = {(e.message_id, e.record["account_id"], e.record["product"]): e for e in messages(found)}
    assert len(told) == 6
    assert answer(told["AA", "a2", "SMS"]) == ("suspect", ["status_conflict"])
    assert answer(told["BB", "a1", "SMS"]) == ("confirmed", ["ambiguous_account"])
    ignored = {heard.ignored for heard in told["BB", "a2", "SMS"].receipts}
    assert ignored == {"it belongs to the record of account a1"}


@pytest.mark.slow
def test_unsent_is_told(tmp_path: Path, clean_environment: None) -> None:
    """A record that the day's send log does not know, beside one that it knows."""
    at = AS_OF - timedelta(days=5)
    store = fill_store(tmp_path / "store", [record("AA", received_at=at),
                       record("BB", received_at=at)], [receipt("AA", pushed_at=at)])  # fmt: skip
    sent = dict.fromkeys(SENT.names) | {
        "message_id": "AA",
        "account_id": "a1",
        "sent_at": at,
        "status": "0",
        "source": "log",
        "line": 1,
        "part": 1,
    }
    path = store.path(SENT, at.date())
    path.parent.mkdir(parents=True)
    pq.write_table(arrow(SENT, [sent]), path)
    judge(store, at.date())
    found = ask(store.root, "AA", "BB")
    says_what_the_tables_say(found)
    assert [answer(each)[1] for each in messages(found)] == [[], ["lost_webhook", "unsent_by_us"]]


@pytest.mark.slow
def test_outage_is_told(tmp_path: Path, clean_environment: None) -> None:
    """A webhook that was lost in an outage of ours says so, published or judged at another time."""
    at = AS_OF - timedelta(days=5)
    lost = [record(f"A{n}", network_code=f"2620{1 + n % 3}", received_at=at) for n in range(40)]
    heard = record("B1", received_at=at + timedelta(hours=1))
    store = fill_store(tmp_path / "store", [*lost, heard],
                       [receipt("B1", pushed_at=at + timedelta(hours=1, seconds=7))])  # fmt: skip
    judge(store, at.date())
    found = ask(store.root, "A7", "B1")
    says_what_the_tables_say(found)
    assert answer(messages(found)[0]) == ("missing", ["capture_outage"])
    later = one(ask(store.root, "A7", as_of=AS_OF + timedelta(hours=5)))
    assert answer(later) == ("missing", ["capture_outage"])
    in_grace = one(ask(store.root, "A7", as_of=at + timedelta(hours=5)))
    assert answer(in_grace) == ("pending", ["in_flight"])


def judge(store: Store, day: date) -> None:
    """Judges a day of a store and publishes it."""
    ours = frozenset({"a1", "a2"})
    with (
        opened(load(store=store.root), AS_OF, lambda *_: None) as this,
        judging.Bench(this.store, this.con, this.ledger, this.settings, AS_OF, ours) as bench,
    ):
        judging.judge_day(bench, day, covered=True)


@pytest.mark.slow
def test_moments_are_those_of_the_core(demo_store: Path) -> None:
    """A verdict changes at the very moment at which a pending message is told to change."""
    pending = [row["message_id"] for row in published(demo_store, VERDICTS)
               if row["verdict"] == "pending"]  # fmt: skip
    assert pending
    for each in messages(ask(demo_store, *pending)):
        change = each.changes[0]
        words, _, text = change.what.rpartition(" ")
        assert words == "if nothing new comes by"
        moment = parse_moment(text)
        before = one(ask(demo_store, each.message_id, as_of=moment - timedelta(milliseconds=1)))
        then = one(ask(demo_store, each.message_id, as_of=moment))
        assert before.judged is not None
        assert before.judged["verdict"] == "pending"
        assert answer(then) == (change.verdict, change.reasons)


def test_changes_are_what_the_core_would_say(demo_store: Path) -> None:
    """A lost webhook: a receipt confirms it, another end makes it suspect, each told once."""
    changes = {each.what: (each.verdict, each.reasons)
               for each in one(ask(demo_store, "0B00000127FDC115")).changes}  # fmt: skip
    assert changes["if one receipt without fault said delivered"] == ("confirmed", [])
    failed = changes["if one receipt without fault said failed"]
    assert failed == ("suspect", ["status_conflict"])
    assert len({(verdict, *reasons) for verdict, reasons in changes.values()}) == len(changes)


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def told(
    demo_store: Path, console: Callable[..., Called], clean_environment: None
) -> Callable[..., Called]:
    """`reconcile explain` on the demo's store."""
    config = str(demo_store.parent / "reconcile.toml")
    return lambda *args: console("explain", *args, "--config", config)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def test_text_for_a_ticket(told: Callable[..., Called], demo_store: Path) -> None:
    """What the platform's own deadline has ended: the rule, and the values that it saw."""
    before = digests(demo_store)
    code, out, err = told("0000001231234567")
    assert (code, err) == (0, "")
    assert out.startswith("Message 0000001231234567: missing: platform_expired")
    assert "as the tables say" in out
    assert "refinement: platform_expired → missing: Vonage expired it at its own deadline" in out
    assert "elapsed 71h 58m, validity 72h, within 15m" in out
    assert "price        0.0297 EUR" in out
    assert "(outranked): Record and deciding receipt tell the same end." in out
    assert digests(demo_store) == before


def test_time_line(told: Callable[..., Called]) -> None:
    """Receipts in order of time, with file and line; the repeated one is marked."""
    _, out, _ = told("0B00000127FDC118")
    lines = out.partition("Time line")[2].splitlines()[1:5]
    assert "Vonage received it" in lines[0]
    assert "+3s" in lines[1]
    assert "Vonage's record ended: delivered" in lines[1]
    assert "receipts-2026-10-12.ndjson line 12; decides" in lines[2]
    assert lines[3].endswith("line 13; duplicate of line 12")


def test_json_is_whole(told: Callable[..., Called]) -> None:
    """All columns of the record and each receipt; times in UTC, money as text."""
    code, out, _ = told("0A000000C1D20023", "1AC0A0053", "--format", "json")
    assert code == 0
    each, alone = json.loads(out)
    assert set(each["record"]) == set(RECORDS.names)
    assert each["verdict"] == "confirmed"
    assert each["reasons"] == ["price_differs"]
    assert each["record"]["received_at"].endswith("Z")
    [held] = [rule for rule in each["rules"] if rule["name"] == "price_differs"]
    assert held["values"]["price"] == each["record"]["price"]
    assert {type(held["values"][name]) for name in ("price", "receipt_price")} == {str}
    assert each["grid"] == {"record": "definite, past grace", "receipt": "same outcome",
                            "verdict": "confirmed", "reason": None}  # fmt: skip
    assert each["receipts"][0]["decides"] is True
    assert each["published"]["as_of"] == each["as_of"]
    assert (alone["found"], alone["kind"]) == ("receipts", "near_match")
    assert alone["resembles"] == ["00000001AC0A0053"]


def test_orphans_are_told_by_their_kind(demo_store: Path) -> None:
    """Receipts without a record: the kind is that of `orphans`."""
    kinds = {row["message_id"]: row["kind"] for row in published(demo_store, ORPHANS)}
    found = {each.message_id: each.kind for each in ask(demo_store, *kinds).told
             if isinstance(each, Alone)}  # fmt: skip
    assert found == kinds
    assert len(set(kinds.values())) == 4


def test_unknown_ids_end_the_rest(told: Callable[..., Called]) -> None:
    """What is known is shown; each unknown id is one line on stderr; exit 6."""
    code, out, err = told("DEADBEEF", "0b00000127fdc130", "not-an-id")
    assert code == 6
    assert out.startswith("Message 0B00000127FDC130: confirmed")
    assert sorted(line.split(":")[1].strip() for line in err.splitlines()) == [
        "message DEADBEEF", "message not-an-id"]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ((), 2, "name message ids"),
        (("0A", "--client-ref", "x"), 2, "one of them"),
        ((" ",), 2, "a message id is blank"),
        (("--client-ref", " "), 2, "client_ref is blank"),
        (("--client-ref", "no such"), 6, "no message of this client_ref"),
        (("0A", "--as-of", "soon"), 2, "is no ISO 8601 time"),
        (("0A", "--store", "nowhere"), 2, "no store at"),
    ],
)
def test_mistakes(
    told: Callable[..., Called], flags: tuple[str, ...], code: int, words: str
) -> None:
    """Each mistake is one line that says what to do."""
    found, out, err = told(*flags)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert words in err


@pytest.mark.slow
def test_as_of_is_obeyed(told: Callable[..., Called]) -> None:
    """Earlier there was less: a pending message, one whose receipts are to come, one not sent."""
    day, ref = "2026-10-12", ("0B00000127FDC118", "--format", "json", "--as-of")
    [each] = json.loads(told(*ref, f"{day}T09:12:28Z")[1])
    assert (each["verdict"], each["reasons"]) == ("pending", ["in_flight"])
    assert each["record_as_known"]["status"] is None
    assert {heard["ignored"] for heard in each["receipts"]} == {"it came after as_of"}
    [each] = json.loads(told(*ref, f"{day}T09:00:00Z")[1])
    assert each["verdict"] is None
    assert "received after" in told("0B00000127FDC118", "--as-of", f"{day}T09:00:00Z")[1]
    text = told("0B00000127FDC118", "--as-of", f"{day}T09:12:28Z")[1]
    assert "the tables, judged as of 2026-10-17T02:30:00Z, say confirmed: duplicate_receipt" in text
    assert "Since then Vonage's record has become delivered" in text


NUMBER = "447700900123"


def numbered(tmp_path: Path) -> Path:
    """A store of three messages to a number and one to another, hidden as the border does."""
    from reconcile import border, engine

    key = tmp_path / "pii.key"
    key.write_text("a key for tests only, 32 letters", "ascii")
    settings = load(store=tmp_path / "store", pii_key_file=key)
    con = engine.connect("1GB", 1, tmp_path / "spill")
    border.set_key(con, settings)
    [hidden] = con.con.execute(f"SELECT {border.recipient(repr(NUMBER), 'hash')}").fetchone()
    con.disconnect()
    at = AS_OF - timedelta(days=5)
    store = fill_store(
        tmp_path / "store",
        [record(f"A{n}", recipient=hidden, received_at=at + timedelta(days=n % 2, minutes=n),
                client_ref="one" if n else "two") for n in range(3)] + [record("B1")],
        [receipt("B1", pushed_at=at)],
    )  # fmt: skip
    (tmp_path / "reconcile.toml").write_text(f'store = "{store.root}"\npii_key_file = "{key}"\n')
    return store.root


@pytest.mark.slow
@pytest.mark.parametrize("typed", [f"{NUMBER}\n", "+44 7700 900-123"])
def test_recipient_from_stdin(
    tmp_path: Path, console: Callable[..., Called], clean_environment: None,
    monkeypatch: pytest.MonkeyPatch, typed: str,
) -> None:  # fmt: skip
    """A number finds its messages, newest first, and is left nowhere."""
    store = numbered(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code, out, err = console("explain", "--recipient", "--limit", "2", "--as-of", "2026-10-20")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines() if line.startswith("Message")] == [
        "A1:", "A2:"]  # fmt: skip
    assert err == "reconcile: only the newest 2 are shown: raise --limit\n"
    assert not [path for path in store.rglob("*")
                if path.is_file() and NUMBER.encode() in path.read_bytes()]  # fmt: skip
    assert NUMBER not in out + err


@pytest.mark.parametrize(("typed", "code", "words"), [
    ("", 2, "no number came"), ("none\n", 2, "no number came"),
    ("447700900999\n", 6, "no message of this recipient is in the store"),
])  # fmt: skip
def test_recipient_that_is_none(
    tmp_path: Path, console: Callable[..., Called], clean_environment: None,
    monkeypatch: pytest.MonkeyPatch, typed: str, code: int, words: str,
) -> None:  # fmt: skip
    """No number, or one that has no message: one line, and the number is not in it."""
    numbered(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    found, out, err = console("explain", "--recipient")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert words in err
    assert "447700900999" not in err


def test_recipient_on_a_terminal(
    tmp_path: Path, console: Callable[..., Called], clean_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Where somebody sits, the number is asked for; the question is no part of the answer."""
    numbered(tmp_path)
    keyboard = io.StringIO(f"{NUMBER}\n")
    monkeypatch.setattr(keyboard, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", keyboard)
    code, out, err = console("explain", "--recipient", "--format", "json", "--as-of", "2026-10-20")
    assert code == 0
    assert [each["message_id"] for each in json.loads(out)] == ["A1", "A2", "A0"]
    assert err.startswith("Number")


def test_recipient_where_none_is_kept(
    tmp_path: Path, console: Callable[..., Called], clean_environment: None
) -> None:
    """With `pii = "drop"` there is nothing to look for, and no number is read."""
    numbered(tmp_path)
    code, _, err = console("explain", "--recipient", "--pii", "drop")
    assert code == 2
    assert "pii is drop" in err


def test_client_ref(tmp_path: Path, clean_environment: None) -> None:
    """A reference finds all messages that were sent with it."""
    found = ask(numbered(tmp_path), client_ref="one", now=AS_OF)
    assert [each.message_id for each in found.told] == ["A1", "A2"]
    assert all(each.published is None for each in messages(found))
    assert "not in the tables" in explained(found, "table")


# --- asking Vonage ----------------------------------------------------------------------------

OPEN = {"end": "400000s", "status_before": "accepted"}


@pytest.fixture
def account(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the worlds that are written by hand."""
    monkeypatch.setenv("VONAGE_API_KEY", "5a4d0b0e")
    monkeypatch.setenv("VONAGE_API_SECRET", "invented")


@pytest.mark.slow
def test_refresh_keeps_what_was_paid(configure: Any, account: None, tmp_path: Path) -> None:
    """A record that has ended since: asked by id, kept, billed, and its day is open again."""
    folder = tmp_path / "world"
    with world_of(configure, folder, [message("AA"), message("AB", **OPEN)],
                  captured("AA")) as world:  # fmt: skip
        world.run("2026-01-10T00:30:00Z")
        assert world.verdict("AB") == ("missing", ["carrier_silent"])
        closed = world.store.ledger().judged["2026-01-05"]
        assert closed["closed"]
        billed = world.store.ledger().billed
        moment = world.sandbox.now = parse_moment("2026-01-12T00:00:00Z")
        with opened(world.settings, moment, lambda *_: None) as this:
            told = refresh(this, Given(("AB",)))
        assert world.by_id[-1] == ["AB"]
        assert (told.reopened, told.billed, told.failure) == (["2026-01-05"], 1, None)
        ledger = world.store.ledger()
        assert (ledger.billed, ledger.judged["2026-01-05"]["closed"]) == (billed + 1, False)
        assert world.rows(RECORDS)["AB"]["status"] == "delivered"
        manifest = world.store.last_manifest()
        assert manifest is not None
        assert manifest["command"] == "explain"
        with looked_at(world.settings, moment) as this:
            each = one(explain(this, Given(("AB",)), moment))
        assert answer(each) == ("missing", ["lost_webhook"])
        assert each.published is not None
        assert each.published.reasons == ["carrier_silent"]


@pytest.mark.slow
def test_refresh_finds_what_is_not_here(configure: Any, account: None, tmp_path: Path) -> None:
    """An id that the store does not know is asked of each account; what is found is told."""
    sent = [message("AA"), message("AB", "2026-01-06T10:00:00Z")]
    with world_of(configure, tmp_path / "world", sent, captured("AA")) as world:
        world.run("2026-01-06T02:00:00Z")
        moment = world.sandbox.now = parse_moment("2026-01-06T12:00:00Z")
        with opened(world.settings, moment, lambda *_: None) as this:
            assert refresh(this, Given(("ab", "CC"))).billed == 1
            assert this.ledger.refreshes[-1]["asked"] == 2
        with looked_at(world.settings, moment) as this:
            found = explain(this, Given(("AB", "CC")), moment)
        assert found.unknown == ["CC"]
        assert answer(one(found)) == ("pending", ["in_flight"])


@pytest.mark.slow
def test_refresh_hands_down_what_was_stopped(configure: Any, account: None, tmp_path: Path) -> None:
    """The days of a run that was stopped are still wanted after somebody asked in between."""
    with world_of(configure, tmp_path / "world", [message("AA")], captured("AA")) as world:
        world.run("2026-01-06T02:00:00Z")
        note = {"as_of": "2026-01-06T02:00:00Z", "days": ["2026-01-05"]}
        world.store.begin(note)
        moment = world.sandbox.now = parse_moment("2026-01-06T12:00:00Z")
        with opened(world.settings, moment, lambda *_: None) as this:
            assert refresh(this, Given(("AA",))).reopened == []
        assert world.store.unfinished() == note


@pytest.mark.slow
def test_refresh_that_fails(
    configure: Any, account: None, tmp_path: Path, console: Callable[..., Called]
) -> None:
    """Vonage is not there: the message is explained from the store all the same; exit 4."""
    with world_of(configure, tmp_path / "world", [message("AA")], captured("AA")) as world:
        world.run("2026-01-06T02:00:00Z")
    code, out, err = console("explain", "AA", "--refresh", "--store", str(world.settings.store),
                             "--base-url", "http://127.0.0.1:9", "--retries", "0")  # fmt: skip
    assert code == 4
    assert out.startswith("Message AA: confirmed")
    assert "127.0.0.1:9 could not be reached" in err


@pytest.mark.parametrize(("ms", "text"), [
    (0, "0s"), (650, "650ms"), (6500, "6.5s"), (61_000, "1m 1s"), (3_600_000, "1h"),
    (259_380_000, "72h 3m"), (-305_000, "-5m 5s"),
])  # fmt: skip
def test_durations(ms: int, text: str) -> None:
    """Spans in their two largest units."""
    assert duration(ms) == text
