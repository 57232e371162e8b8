"""The night: which days it takes on, what it hands down, and what a failure leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from reconcile import job
from reconcile.days import DAY, iso, parse_moment
from reconcile.errors import UsageError
from reconcile.sandbox.demo import sample_data
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings, load
from reconcile.store import Ledger, Store

ACCOUNT = Account("a1b2c3d4", "a1b2c3d4", "sample-secret")
NIGHT = datetime(2026, 10, 17, 2, 30, tzinfo=UTC)
EVERY_NIGHT = job.Asked()


def quiet(_what: str, _rows: int) -> None:
    """No progress."""


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("VONAGE_API_KEY", ACCOUNT.api_key)
    monkeypatch.setenv("VONAGE_API_SECRET", ACCOUNT.api_secret)


def planned(
    as_of: datetime, ledger: Ledger, asked: job.Asked = EVERY_NIGHT, **flags: Any
) -> job.Run:
    """A run that has only planned; its days are in `manifest["planned"]`."""
    store = Store.open(Path("store"), create=True)
    this = job.Run(load(lookback="5d", **flags), store, cast(Any, None), ledger, as_of, quiet)
    this.manifest["planned"] = [d.isoformat() for d in job.plan(this, asked)]
    return this


def downloaded(*days: str) -> list[dict[str, Any]]:
    return [
        {"account_id": ACCOUNT.account_id, "product": "SMS", "start": f"{day}T00:00:00Z",
         "end": iso(parse_moment(day) + DAY), "billed": 5, "records": 5}
        for day in days
    ]  # fmt: skip


def test_first_night_looks_back() -> None:
    """An empty store: the days of `lookback`, up to yesterday."""
    this = planned(NIGHT, Ledger())
    assert this.manifest["planned"] == [f"2026-10-{d}" for d in (12, 13, 14, 15, 16)]


def test_later_night_goes_on() -> None:
    """From the day after the last whole one to yesterday, and what is open; nothing closed."""
    ledger = Ledger(
        downloads=downloaded("2026-10-13", "2026-10-14", "2026-10-15"),
        judged={"2026-10-13": {"closed": True}, "2026-10-14": {"closed": False}},
    )
    assert planned(NIGHT, ledger).manifest["planned"] == ["2026-10-14", "2026-10-15", "2026-10-16"]


def test_holes_are_filled() -> None:
    """Days that are not whole since the first one are asked for, however long ago, by default."""
    ledger = Ledger(downloads=downloaded("2026-09-26", "2026-10-14"),
                    judged={d: {"closed": True} for d in ("2026-09-26", "2026-10-14")})  # fmt: skip
    found = planned(NIGHT, ledger).manifest["planned"]
    assert (found[0], found[-1], len(found)) == ("2026-09-27", "2026-10-16", 19)
    assert "2026-10-14" not in found


def test_holes_are_filled_so_far() -> None:
    """`fill_holes` bounds how far back."""
    ledger = Ledger(downloads=downloaded("2026-09-01"), judged={"2026-09-01": {"closed": True}})
    found = planned(NIGHT, ledger, fill_holes="3d").manifest["planned"]
    assert found == ["2026-10-14", "2026-10-15", "2026-10-16"]


def test_unsettled_day_is_named() -> None:
    """At half past midnight yesterday has not settled: skipped, named, exit 3."""
    this = planned(datetime(2026, 10, 17, 0, 30, tzinfo=UTC), Ledger())
    assert "2026-10-16" not in this.manifest["planned"]
    assert [h["day"] for h in this.holes] == ["2026-10-16"]
    assert this.exit_code == 3


def test_a_future_day_is_a_mistake() -> None:
    """Tomorrow cannot be meant."""
    with pytest.raises(UsageError, match="2026-10-18 lies in the future"):
        planned(NIGHT, Ledger(), job.Asked(date(2026, 10, 18), date(2026, 10, 19)))


def test_a_stopped_run_hands_down_its_days() -> None:
    """Days that a killed run had begun are judged by the next, whatever that is asked for."""
    Store.open(Path("store"), create=True).begin({"as_of": iso(NIGHT), "days": ["2026-10-03"]})
    this = planned(NIGHT, Ledger(), job.Asked(date(2026, 10, 14), date(2026, 10, 15)))
    assert this.manifest["planned"] == ["2026-10-03", "2026-10-14"]


def test_judging_alone_needs_no_account() -> None:
    """Without dates and without accounts, the open days are planned."""
    store = Store.open(Path("store"), create=True)
    ledger = Ledger(downloads=downloaded("2026-10-14"))
    this = job.Run(load(), store, cast(Any, None), ledger, NIGHT, quiet)
    assert job.plan(this, job.Asked(), offline=True) == [date(2026, 10, 14)]


def test_a_stopped_run_lends_its_as_of() -> None:
    """Started again on the same day without --as-of, a run is finished as of when it began."""
    store, settings = Store.open(Path("store"), create=True), load()
    began = parse_moment("2026-10-17T01:00:00Z")
    store.begin({"as_of": iso(began), "days": []})
    with job.opened(settings, NIGHT, quiet, given=False) as this:
        assert this.as_of == began
    with job.opened(settings, NIGHT, quiet, given=True) as this:
        assert this.as_of == NIGHT


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(sample_data(), pending_seconds=0.05, now=NIGHT) as served:
        yield served


def settings_for(sandbox: Sandbox, **more: Any) -> Settings:
    dlr = [str(sample_data() / "dlr" / "*")]
    return load(base_url=sandbox.base_url, dlr=dlr, poll_first="50ms", retries=0, **more)


@pytest.mark.slow
def test_one_account_refused_leaves_the_others_whole(sandbox: Sandbox) -> None:
    """Two accounts, one with a wrong secret: its days are holes (3), the other's are judged."""
    Path("good").write_text(ACCOUNT.api_secret)
    Path("bad").write_text("wrong")
    accounts = [
        {"api_key": ACCOUNT.api_key, "api_secret_file": "good"},
        {"api_key": "b0b0b0b0", "api_secret_file": "bad"},
    ]
    days = job.Asked(date(2026, 10, 12), date(2026, 10, 13))
    ended = job.run(settings_for(sandbox, accounts=accounts), days, NIGHT, quiet)
    assert ended.exit_code == 3
    (hole,) = ended.holes
    assert hole["account_id"] == "b0b0b0b0"
    assert "Unauthorized" in hole["reason"]
    assert ended.manifest["judged"][0]["messages"] == 29
    (path,) = Path("store/runs").glob("*.json")
    assert json.loads(path.read_text())["incomplete"] == ended.holes


@pytest.mark.slow
def test_dropped_numbers(sandbox: Sandbox) -> None:
    """With `pii = "drop"` no recipient is kept, and no rule speaks of them."""
    days = job.Asked(date(2026, 10, 12), date(2026, 10, 15))
    job.run(settings_for(sandbox, pii="drop"), days, NIGHT, quiet)
    found = pd.read_parquet("store/verdicts")
    assert found["recipient"].isna().all()
    assert "recipient_mismatch" not in set(found["reasons"].explode())


@pytest.mark.slow
def test_kept_numbers(sandbox: Sandbox) -> None:
    """With `pii = "keep"` recipients are digits, equal on both borders."""
    days = job.Asked(date(2026, 10, 12), date(2026, 10, 13))
    job.run(settings_for(sandbox, pii="keep"), days, NIGHT, quiet)
    sent = set(pd.read_parquet("store/records")["recipient"].dropna())
    heard = set(pd.read_parquet("store/receipts")["recipient"].dropna())
    assert all(number.isdigit() for number in sent | heard)
    assert sent & heard


@pytest.mark.slow
def test_nights_end_where_one_run_ends(tmp_path: Path) -> None:
    """Night after night with the sandbox's clock: the truth at the end, each record paid once.

    What is paid beyond is what was asked again by id: the messages that were not final yet.
    """
    made = generate(tmp_path / "world", messages=1500, days=2, seed=21)
    monitored: list[dict[str, Any]] = []
    with Sandbox(made.folder, pending_seconds=0.05) as served:
        key = tmp_path / "secret"
        key.write_text(served.api_secret)
        accounts = [{"api_key": served.api_key, "api_secret_file": str(key)}]
        for night in ("2026-01-06", "2026-01-07", "2026-01-10", "2026-01-16"):
            moment = served.now = parse_moment(f"{night}T02:30:00Z")
            settings = load(
                base_url=served.base_url, accounts=accounts, dlr=[str(made.folder / "dlr" / "*")],
                poll_first="50ms", lookback="2d",
            )  # fmt: skip
            ended = job.run(settings, job.Asked(), moment, quiet)
            assert ended.exit_code == 0
            monitored.append(ended.manifest)
        assert served.billed_records == ended.ledger.billed
    asked = [r["billed"] for m in monitored for r in m.get("refreshes", [])]
    assert ended.ledger.billed == 1500 + sum(asked)
    assert 0 < sum(asked) < 300
    truth = pd.read_parquet(made.folder / "truth.parquet").set_index("message_id")["verdict"]
    found = pd.read_parquet("store/verdicts").set_index("message_id")["verdict"]
    assert found.sort_index().to_dict() == truth.sort_index().to_dict()
    assert all(ended.ledger.judged[day]["closed"] for day in ("2026-01-05", "2026-01-06"))
