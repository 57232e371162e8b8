"""The capability table: what is read, what is refused, and what the rules make of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import judge_support as core
import pytest

from reconcile import capabilities, settings
from reconcile.capabilities import Capability
from reconcile.errors import SettingsError
from reconcile.judge import pair, rules
from reconcile.tables import RECEIPTS, RECORDS

TABLE = """country,network_code,receipts,note
de,,none,a country
DE,26201,handset,one of its networks is better
 gb , 23410 ,Untrusted, spaces and case
US,*,carrier,
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "capabilities.csv"
    path.write_text(text, "utf-8")
    return path


def test_load(tmp_path: Path) -> None:
    """Blank and `*` are the whole country; spaces and case do not matter, nor a note or order."""
    assert capabilities.load(write(tmp_path, TABLE)) == (
        Capability("DE", "*", "none", "a country"),
        Capability("DE", "26201", "handset", "one of its networks is better"),
        Capability("GB", "23410", "untrusted", "spaces and case"),
        Capability("US", "*", "carrier"),
    )
    short = capabilities.load(write(tmp_path, "receipts,network_code,country\nnone,,NA\n"))
    assert short == (Capability("NA", "*", "none"),)


@pytest.mark.parametrize(("text", "says"), [
    ("country,receipts\nDE,none\n", "lacks the column network_code"),
    ("", "lacks the column country, network_code, receipts"),
    ("country,network_code,receipts\nXX,,none\n", "line 2: XX is no country"),
    ("country,network_code,receipts\nDE,,none\n,,none\n", "line 3: blank is no country"),
    ("country,network_code,receipts\nDE,,maybe\n", "line 2: receipts is maybe: use handset"),
    ("country,network_code,receipts\nDE\n", "line 2: receipts is blank"),
    ("country,network_code,receipts\nDE,23410,none\n", "line 2: the network 23410 is of GB"),
    ("country,network_code,receipts\nDE,,none\nde,*,carrier\n", "line 3: line 2 says that already"),
])  # fmt: skip
def test_refused(tmp_path: Path, text: str, says: str) -> None:
    """One line says which line is wrong, and why; settings refuse it before anything runs."""
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=r"capabilities\.csv") as told:
        capabilities.load(path)
    assert says in str(told.value)
    with pytest.raises(SettingsError):
        settings.load(None, capabilities=path)


def test_unreadable(tmp_path: Path) -> None:
    """A table that is not there, and one that is no text."""
    with pytest.raises(SettingsError, match="No such file"):
        capabilities.load(tmp_path / "none.csv")
    (tmp_path / "noise.csv").write_bytes(b"country,network_code,receipts\n\xff\xfe\n")
    with pytest.raises(SettingsError, match="no CSV in UTF-8"):
        capabilities.load(tmp_path / "noise.csv")


def judged(records: list[core.Row], receipts: list[core.Row], path: Path) -> dict[str, Any]:
    known = capabilities.load(path)
    limits = rules.Limits(core.AS_OF, core.LIMITS.validity, core.LIMITS.grace,
                          core.LIMITS.too_fast, known)  # fmt: skip
    pairs = pair.pair(core.put("cap_records", RECORDS, records),
                      core.put("cap_receipts", RECEIPTS, receipts),
                      pair.Scope(core.AS_OF, several_owners=False))  # fmt: skip
    rows: ibis.Table = rules.judge(pairs, limits)
    con = core.connection()
    con.create_view("with_capabilities", rows, overwrite=True)
    found = con.con.execute("FROM with_capabilities").to_arrow_table().to_pylist()
    return {row["message_id"]: (row["verdict"], row["reasons"]) for row in found}


def test_no_receipt_expected(tmp_path: Path) -> None:
    """Where a network sends none, a message without one is not missed; one that came counts."""
    german = {"country": "DE", "network_code": "26202"}
    british = {"country": "GB", "network_code": "23410", "status": "delivered"}
    found = judged(
        [
            core.record("SILENT", **german), core.record("OPEN", **german, status="accepted"),
            core.record("HEARD", **german), core.record("HALF", **german),
            core.record("BETTER", country="DE", network_code="26201"),
            core.record("BRITISH", **british), core.record("MUTE", **british),
            core.record("DELETED", **german, status="deleted"),
            core.record("ODD", **german, finalized_at=core.AS_OF - timedelta(days=6)),
        ],
        [
            core.receipt("HEARD", network_code="26202"), core.receipt("HALF", status="accepted"),
            core.receipt("BRITISH", network_code="23410"),
        ],
        write(tmp_path, TABLE),
    )  # fmt: skip
    assert found == {
        "SILENT": ("not_expected", ["no_receipt_expected"]),
        "OPEN": ("not_expected", ["no_receipt_expected"]),
        "HEARD": ("confirmed", []),
        "HALF": ("not_expected", ["no_receipt_expected"]),
        "BETTER": ("missing", ["lost_webhook"]),
        "BRITISH": ("confirmed", ["untrusted_network"]),
        "MUTE": ("missing", ["lost_webhook", "untrusted_network"]),
        "DELETED": ("not_expected", ["no_receipt_expected", "record_deleted"]),
        "ODD": ("suspect", ["time_travel"]),
    }


@pytest.mark.parametrize(("pattern", "says"), [
    ("(", "is no regular expression"), ("^[a-z]+", "needs a group"),
    ("(?P<name>x)", "needs a group"),
])  # fmt: skip
def test_campaign_pattern(pattern: str, says: str) -> None:
    """A pattern without its group is refused before anything runs."""
    with pytest.raises(SettingsError, match=says):
        settings.load(None, campaign=pattern)
