"""The capture rig: what a real nginx logs, and a real logrotate rotates, is read once."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import requests

from tests import rig_nginx as rig

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")

needs_rig = pytest.mark.skipif(
    bool(rig.lacking()),
    reason=f"the capture rig needs {rig.lacking()} (apt-get install nginx-light logrotate)",
)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[rig.Nginx]:
    """A running nginx; at its end it has complained of nothing but what was too large."""
    with rig.running(tmp_path) as running:
        yield running
    complaints = (tmp_path / "error.log").read_text("utf-8").splitlines()
    assert [line for line in complaints if "[notice]" not in line and "too large" not in line] == []


def specimens() -> list[rig.Callback]:
    """Every client-ref in every way."""
    rng = random.Random(7)
    pairs = [(way, ref) for way in rig.WAYS for ref in (*rig.REFS, None)]
    return [rig.callback(rng, n, way, ref) for n, (way, ref) in enumerate(pairs)]


def test_the_readme_shows_the_sample() -> None:
    """The configuration that the README shows is the file that is tested here."""
    shown = re.search(r"<!-- nginx-dlr\.conf -->\s*```nginx\n(.*?)```", README, re.DOTALL)
    assert shown
    assert shown[1] == rig.NGINX_CONF.read_text("utf-8")


@needs_rig
def test_nginx_logs_what_came(nginx: rig.Nginx) -> None:
    """A line is JSON that holds the payload as it was sent, wherever it stood, and its token."""
    sent = rig.Sent()
    sent.send(nginx.url, specimens())
    assert (sent.refused, sent.unanswered) == ([], [])
    lines = rig.logged(nginx.log.parent, len(sent.taken))
    for one, line in zip(sent.taken, lines, strict=True):
        assert abs(float(line["msec"]) - datetime.now(UTC).timestamp()) < 60
        assert datetime.fromisoformat(line["captured_at"]).tzinfo
        assert line["authorization"] == (f"Bearer {rig.JWT}" if one.way == "messages" else "")
        assert line["method"] == ("GET" if one.way == "get" else "POST")
        if one.way in ("get", "form"):
            assert line["args" if one.way == "form" else "body"] == ""
            found = parse_qs(line["body" if one.way == "form" else "args"], strict_parsing=True)
            assert found == {name: [value] for name, value in one.payload.items()}
        else:
            assert json.loads(line["body"]) == one.payload


@needs_rig
@pytest.mark.parametrize("size", [1, 16_000, 16 << 10])
@pytest.mark.parametrize("chunk", [None, 1, 1000])
def test_a_body_is_logged_whole(nginx: rig.Nginx, size: int, chunk: int | None) -> None:
    """Whatever is accepted is logged, also if it comes in chunks."""
    body = b"x" * size
    pieces = (body[n : n + chunk] for n in range(0, size, chunk)) if chunk else body
    assert requests.post(nginx.url, data=pieces, timeout=30).status_code == 204
    assert [line["body"] for line in rig.logged(nginx.log.parent, 1)] == [body.decode()]


@needs_rig
@pytest.mark.parametrize("chunk", [None, 1000])
def test_what_is_too_large_is_refused(nginx: rig.Nginx, chunk: int | None) -> None:
    """It is not accepted and then lost: Vonage is told, and no line says otherwise."""
    body = b"x" * 17_000
    pieces = (body[n : n + chunk] for n in range(0, len(body), chunk)) if chunk else body
    assert requests.post(nginx.url, data=pieces, timeout=30).status_code == 413
    assert requests.get(nginx.url, timeout=30).status_code == 204
    assert [line["method"] for line in rig.logged(nginx.log.parent, 1)] == ["GET"]


@needs_rig
def test_rotation_as_installed(tmp_path: Path) -> None:
    """nginx's own user can open the new log, if the folder of the captures is that user's."""
    if os.geteuid() != 0:
        pytest.skip("another user needs root")
    rotated = Path(tempfile.mkdtemp(prefix="rig-"))
    rotated.chmod(0o755)
    try:
        with rig.running(rotated, ("www-data", "adm")) as nginx:
            for n in range(4):
                rig.Sent().send(nginx.url, specimens()[n : n + 1])
                rig.logged(nginx.log.parent, n + 1)
                nginx.rotate()
                nginx.settled()
            assert oct(nginx.log.stat().st_mode & 0o777) == "0o640"
            assert (nginx.log.owner(), nginx.log.group()) == ("www-data", "adm")
            names = sorted(path.name for path in nginx.log.parent.iterdir())
            older = [f"dlr.ndjson.{n}" for n in ("1", "2.gz", "3.gz", "4.gz")]
            assert names == ["dlr.ndjson", *older]
            assert len(rig.logged(nginx.log.parent, 4)) == 4
    finally:
        shutil.rmtree(rotated)


@pytest.mark.slow
@needs_rig
def test_a_callback_is_a_receipt(nginx: rig.Nginx) -> None:
    """Field by field: GET, form, JSON, the Messages API; what is none is not counted as one."""
    sent, begun = rig.Sent(), datetime.now(UTC).replace(microsecond=0)
    rng = random.Random(8)
    odd = [rig.callback(rng, 10**6 + n, way, None) for n, way in enumerate(("empty", "large"))]
    sent.send(nginx.url, specimens() + odd)
    until = datetime.now(UTC) + timedelta(seconds=1)
    ended = rig.ingest(nginx.folder, str(nginx.log))
    assert (ended.returncode, ended.stderr) == (0, "")
    wanted = {one.wanted["message_id"]: one.wanted for one in sent.taken if one.wanted}
    rows = sorted(rig.stored(nginx.folder, "receipts"), key=lambda row: row["line"])
    assert [row["line"] for row in rows] == list(range(1, len(specimens()) + 1))
    for row in rows:
        assert rig.differing(row, wanted.pop(row["message_id"])) == ""
        assert begun <= row["captured_at"] <= until
        assert row["source"] == str(nginx.log)
    assert wanted == {}
    assert [one.way for one in sent.refused] == ["large"]
    [reject] = rig.stored(nginx.folder, "rejects")
    assert reject["line"] == len(rows) + 1
    assert reject["kind"].startswith("not_a_receipt:")


@pytest.mark.slow
@needs_rig
@pytest.mark.parametrize("seed", [1])
def test_ordeal(tmp_path: Path, seed: int) -> None:
    """Rotated, renamed, packed, copied, truncated, read at any moment: each is one receipt."""
    many = rig.callbacks(random.Random(seed), 600)
    steps = len(rig.Ordeal.ANY) + 2
    ended = rig.ordeal(tmp_path, callbacks=many, steps=steps, seed=seed)
    assert ended.failed == []
    assert (ended.lost, ended.twice, ended.strange, ended.differing) == ([], [], [], [])
    assert not ended.changed
    assert ended.taken > 550
    assert ended.rejects == ended.empty
    assert set(ended.done) == set(rig.Ordeal.ANY)
