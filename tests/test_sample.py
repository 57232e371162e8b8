"""The demo on the sample data: every verdict and every reason, as the files beside it expect."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from reconcile.judge.orphans import KINDS
from reconcile.judge.rules import GRID_SENTENCES, RULES
from reconcile.vocabulary import VERDICTS

SAMPLE = Path(__file__).parent.parent / "sample_data"
# What no single account's three days can show, and what needs verified signatures or a send log.
ELSEWHERE = {"bad_signature", "ambiguous_account", "unsent_by_us"}


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def store(demo_store: Path) -> Path:
    return demo_store


def test_verdicts_and_reasons(store: Path) -> None:
    """Each message has the verdict and exactly the reasons that expected.csv gives."""
    found = pd.read_parquet(store / "verdicts")
    told = {r.message_id: (r.verdict, ";".join(r.reasons)) for r in found.itertuples()}
    assert told == {r["message_id"]: (r["verdict"], r["reasons"]) for r in rows("expected.csv")}


def test_every_verdict_and_reason_is_shown() -> None:
    """The sample has an example of each verdict, of each rule, and of each kind of orphan."""
    expected = rows("expected.csv")
    reasons = {reason for row in expected for reason in row["reasons"].split(";") if reason}
    assert {row["verdict"] for row in expected} == set(VERDICTS)
    assert reasons == {*GRID_SENTENCES, *(rule.name for rule in RULES)} - ELSEWHERE
    assert {row["kind"] for row in rows("expected_orphans.csv")} == set(KINDS)


def test_orphans(store: Path) -> None:
    """Each receipt that joins nothing is of the kind expected."""
    found = pd.read_parquet(store / "orphans")
    told = set(zip(found["message_id"], found["kind"], strict=True))
    assert told == {(r["message_id"], r["kind"]) for r in rows("expected_orphans.csv")}


def test_rejects(store: Path) -> None:
    """Each line that is no receipt is kept aside with its place and kind."""
    found = pd.read_parquet(store / "rejects")
    told = {(Path(r.source).name, str(r.line), r.kind) for r in found.itertuples()}
    assert told == {(r["source"], r["line"], r["kind"]) for r in rows("expected_rejects.csv")}


def test_the_guides_own_receipt(store: Path) -> None:
    """The example of Vonage's guide is read field by field."""
    (receipt,) = pd.read_parquet(
        store / "receipts" / "day=2018-10-25", filters=[("message_id", "==", "0B00000127FDBC63")]
    ).to_dict("records")
    assert receipt["status"] == "delivered"
    assert (receipt["network_code"], receipt["error_code"]) == ("23410", "0")
    assert (str(receipt["price"]), receipt["scts"]) == ("0.03330000", "1810251310")
    assert receipt["sender"] == "Nexmo CLI"
    assert receipt["pushed_at"].isoformat() == "2018-10-25T12:10:29+00:00"
