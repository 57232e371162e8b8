"""Captures in buckets: those that are new lie on this machine while they are read, and no longer.

An object that was read to its end is known by its URL and etag, and is not fetched again; whatever
else was fetched is a capture like any other, known by its content (`identity.py`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reconcile.bucket import SCHEME, Bucket, Stat, is_url
from reconcile.errors import UsageError
from reconcile.receipts.adding import Problem
from reconcile.receipts.ingest import find
from reconcile.store import disk

WILD = "*?["


@dataclass
class Brought:
    """What patterns name, on this machine.

    Attributes:
        files: the files to be read.
        nothing: the patterns that name none.
        urls: of the files that were fetched, where they came from; the others have none.
        etags: the state that each of those was in.
    """

    files: list[Path] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)

    def called(self, text: str) -> str:
        """A text about fetched files, in which they are called by their URLs."""
        for path, url in self.urls.items():
            text = text.replace(path, url)
        return text


@contextmanager
def brought(patterns: Iterable[str], known: dict[str, str], folder: Path) -> Iterator[Brought]:
    """The files that patterns name; objects that are not known are fetched while this is open.

    Args:
        patterns: files, folders and globs, and `s3://` URLs of the same.
        known: URL → the etag with which it was read to its end.
        folder: where to fetch to; what it holds goes.

    Raises:
        BucketError: a bucket could not be reached, or refused.
    """
    patterns = list(patterns)
    files, nothing = find(p for p in patterns if not is_url(p))
    found = Brought(files, nothing)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for pattern in filter(is_url, patterns):
            _bring(found, pattern, known, folder)
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settled(
    given: Brought, entries: Mapping[str, dict[str, Any]], problems: Iterable[Problem]
) -> dict[str, str]:
    """URL → etag of the objects that were read to their end; the others are fetched again.

    Args:
        given: what was brought, and has been read.
        entries: what the ledger holds of captures now.
        problems: what was wrong with some.
    """
    waiting = {entry["path"] for entry in entries.values() if entry.get("waits")}
    told = [problem.reason for problem in problems]
    return {
        url: given.etags[url]
        for path, url in given.urls.items()
        if path not in waiting and not any(path in reason for reason in told)
    }


def listed(pattern: str) -> dict[str, Stat]:
    """The objects that a URL names, by URL: one, those below it, or those that match it; no hidden
    ones.

    Raises:
        BucketError: the bucket could not be reached, or refused.
    """
    bucket, key = _parted(pattern)
    if any(c in key for c in WILD):
        from fsspec.utils import glob_translate

        fixed = re.split(f"[{re.escape(WILD)}]", key)[0].rpartition("/")[0]
        matches = re.compile(glob_translate(key)).match
        found = {name: stat for name, stat in bucket.list(fixed).items() if matches(name)}
    else:
        one = bucket.stat(key) if key else None
        found = {key: one} if one else bucket.list(key)
    return {
        f"{bucket.url}/{name}": stat
        for name, stat in sorted(found.items())
        if not any(part.startswith(".") for part in name.split("/"))
    }


def _bring(found: Brought, pattern: str, known: dict[str, str], folder: Path) -> None:
    objects = listed(pattern)
    if not objects:
        found.nothing.append(pattern)
    bucket, _ = _parted(pattern)
    for url, stat in objects.items():
        if known.get(url) == stat.etag or url in found.etags:
            continue
        name = url.removeprefix(f"{bucket.url}/")
        path = folder / bucket.name / _as_path(name)
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        now = bucket.get(name, path)
        if now is None:
            continue
        moment = now.modified.timestamp()
        os.utime(path, (moment, moment))  # whether it may still grow is told by that
        found.files.append(path)
        found.urls[str(path)], found.etags[url] = url, now.etag


def _as_path(name: str) -> Path:
    """A name of others' making as a path that stays below its folder, whatever it is."""
    return Path(*(quote(part, safe="") for part in name.split("/") if part not in ("", ".", "..")))


def _parted(pattern: str) -> tuple[Bucket, str]:
    name, _, key = pattern.removeprefix(SCHEME).partition("/")
    if any(c in name for c in WILD):
        raise UsageError(f"{pattern}: a bucket is named without wildcards")
    return Bucket(f"{SCHEME}{name}"), key.strip("/")
