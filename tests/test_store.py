"""A store that a run began, and did not get to begin whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconcile.errors import StoreVersionError, UsageError
from reconcile.store import MARKER, Store


@pytest.mark.parametrize("torn", ["", "{", '{"format": 1'])
def test_killed_while_it_was_begun(torn: str, tmp_path: Path) -> None:
    """What a killed run left of its first file keeps nobody out."""
    store = tmp_path / "store"
    store.mkdir()
    (store / f".{MARKER}.new").write_text(torn, "ascii")
    (store / ".work").mkdir()
    assert Store.open(store, create=True).root == store
    assert [path.name for path in store.glob("*.json")] == [MARKER]
    assert not (store / f".{MARKER}.new").exists()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """Beside files that are none of ours no store is begun."""
    (tmp_path / "holidays.jpg").touch()
    with pytest.raises(UsageError, match="not empty and no store"):
        Store.open(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holidays.jpg"]


def test_a_ledger_of_tomorrow(tmp_path: Path) -> None:
    """A ledger with what a later version adds is refused by name, before anything is lost of it."""
    store = Store.open(tmp_path / "store", create=True)
    store.save(store.ledger())
    path = store.root / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"insured": []}))
    with pytest.raises(StoreVersionError, match="insured"):
        store.ledger()
