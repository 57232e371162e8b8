"""Objects that go up in several parts: whole there and whole here, whatever is lost on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -e '.[s3]'")
pytest.importorskip("moto", reason="moto is not installed: pip install -e '.[test]'")

from rig_s3 import BUCKET, S3, serving

from reconcile.bucket import Bucket

# More than two of the parts of 50 MiB that s3fs makes of a file.
SIZE = 104 * 2**20


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with serving() as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        yield rig


@pytest.mark.slow
def test_parts_are_lost_on_the_way(s3: S3, tmp_path: Path) -> None:
    """An object of three parts is put and fetched under every fault, and one that is cut short
    again and again is fetched on from where it was cut."""
    bucket, file, back = Bucket(f"s3://{BUCKET}/large"), tmp_path / "file", tmp_path / "back"
    piece = os.urandom(2**20)
    file.write_bytes(b"".join(piece + n.to_bytes(4) for n in range(SIZE // len(piece))))
    s3.shares = {"slow_down": 0.1, "cut_before": 0.1, "cut_after": 0.1, "cut_mid_body": 0.2}
    put = bucket.put(file, "verdicts.parquet")
    assert put.etag.endswith("-3")  # of so many parts
    s3.calm()
    s3.seen.clear()
    s3.shares = {"cut_mid_body": 0.8}
    assert bucket.get("verdicts.parquet", back) == put
    assert s3.seen["cut_mid_body"] > 1
    assert back.read_bytes() == file.read_bytes()
