"""Objects in a bucket that speaks S3, through fsspec: read, put as a whole, never half of one.

Credentials, region and endpoint are those of the AWS tools: environment, profile, or the machine's
role (`AWS_ENDPOINT_URL` names another server than Amazon's).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

from reconcile.errors import BucketError, SettingsError, UsageError, first_line

if TYPE_CHECKING:
    import s3fs

SCHEME = "s3://"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# How often botocore tries (it waits ever longer between), and how often s3fs lets it begin anew.
TRIES, ROUNDS = 6, 2
CONNECT_SECONDS, READ_SECONDS = 10, 60
# As many as one request may name.
DROPPED_AT_ONCE = 1000
# How often an object is fetched that is replaced meanwhile.
FETCHES = 5
# What of an object is in memory: as it is fetched, and how many parts of a large one (50 MiB each)
# as it is put.
FETCHED_AT_ONCE, PUT_AT_ONCE = 2**20, 2


@dataclass(frozen=True)
class Stat:
    """What a listing says of an object.

    Attributes:
        etag: tells one state of it from another.
        size: bytes.
        modified: when it was put, by the server's clock.
    """

    etag: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Read:
    """A small object as it was read, and how long before (by the server's clock) it was put."""

    data: bytes
    etag: str
    seconds_old: float


class Bucket:
    """The objects below `s3://BUCKET/PREFIX`; their names are relative to it.

    Args:
        url: where they are.
        tries: how often a request is made; 1 where who asks will ask again anyway.
        read_seconds: how long to wait for bytes.
    """

    def __init__(self, url: str, *, tries: int = TRIES, read_seconds: float = READ_SECONDS) -> None:
        matched = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/*", url)
        if not matched:
            raise UsageError(f"{url} is no bucket: write s3://BUCKET or s3://BUCKET/FOLDER")
        self.name, self.prefix = matched[1], matched[2] or ""
        self.url = SCHEME + "/".join(filter(None, (self.name, self.prefix)))
        self._tries = tries
        self._fs = _connect(tries, read_seconds)

    def list(self, folder: str = "", *, deep: bool = True) -> dict[str, Stat]:
        """The objects in a folder, by name; `deep`: in folders of it, too."""
        below = self._key(folder)
        asked = {"Bucket": self.name, "Prefix": f"{below}/" if below else ""}
        if not deep:
            asked["Delimiter"] = "/"
        begin, found = len(self._key("x")) - 1, {}
        while True:
            with reaching(self.url):
                told = self._fs.call_s3("list_objects_v2", **asked)
            for each in told.get("Contents", []):
                found[each["Key"][begin:]] = _stat(each, int(each["Size"]))
            if not told.get("IsTruncated"):
                return found
            asked["ContinuationToken"] = told["NextContinuationToken"]

    def beginnings(self) -> set[str]:
        """What names begin with, up to the first slash: some of it, where it is very much."""
        below = f"{self.prefix}/" if self.prefix else ""
        with reaching(self.url):
            told = self._fs.call_s3(
                "list_objects_v2", Bucket=self.name, Prefix=below, Delimiter="/"
            )
        names = [each["Key"] for each in told.get("Contents", [])]
        names += [each["Prefix"] for each in told.get("CommonPrefixes", [])]
        return {name[len(below) :].rstrip("/") for name in names} - {""}

    def stat(self, name: str) -> Stat | None:
        """What is known of one object; None: there is none."""
        with reaching(self.url):
            try:
                told = self._call("head_object", name)
            except FileNotFoundError:
                return None
        return _stat(told, int(told["ContentLength"]))

    def read(self, name: str) -> Read | None:
        """A small object; None: there is none."""
        from fsspec.asyn import sync
        from s3fs.core import S3_RETRYABLE_ERRORS

        key = self._key(name)
        with reaching(self.url):
            for left in reversed(range(self._tries)):
                try:
                    told, data = sync(self._fs.loop, self._read, key)
                    break
                except FileNotFoundError as error:
                    if _code(error) == "NoSuchBucket":
                        raise
                    return None
                except S3_RETRYABLE_ERRORS:  # lost in the middle of its body
                    if not left:
                        raise
        now = _date(told["ResponseMetadata"]["HTTPHeaders"].get("date"))
        seconds = (now - told["LastModified"]).total_seconds() if now else 0.0
        return Read(data, _plain(told["ETag"]), seconds)

    async def _read(self, key: str) -> tuple[dict[str, Any], bytes]:
        told = await self._fs._call_s3("get_object", Bucket=self.name, Key=key)
        async with told["Body"] as body:
            return told, await body.read()

    def get(self, name: str, path: Path) -> Stat | None:
        """Fetches a whole object in one of its states, and says which; None: there is none."""
        from fsspec.asyn import sync

        for _ in range(FETCHES):
            before = self.stat(name)
            if before is None:
                return None
            with reaching(self.url):
                try:
                    sync(self._fs.loop, self._fetch, self._key(name), path)
                except FileNotFoundError:
                    continue
            if self.stat(name) == before and path.stat().st_size == before.size:
                return before
        raise BucketError(f"{self.url}/{name} changes while it is read: run again later")

    async def _fetch(self, key: str, path: Path) -> None:
        """Streams an object into a file; a connection that is lost is gone on from there.

        s3fs fetches what is larger than 50 MiB in parts, and gives up where one is cut short.
        """
        import asyncio

        from s3fs.core import S3_RETRYABLE_ERRORS

        left, waited = TRIES, 0.1
        with path.open("wb") as file:
            while True:
                on = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
                told = await self._fs._call_s3("get_object", Bucket=self.name, Key=key, **on)
                began = file.tell()
                try:
                    async with told["Body"] as body:
                        while piece := await body.read(FETCHED_AT_ONCE):
                            file.write(piece)
                    return
                except S3_RETRYABLE_ERRORS:
                    # What gets on may be lost as often as it likes.
                    left, waited = (TRIES, 0.1) if file.tell() > began else (left - 1, waited * 2)
                    if not left:
                        raise
                    await asyncio.sleep(waited)

    def put(self, path: Path, name: str) -> Stat:
        """Puts a file as one object, which takes the place of one that was there."""
        with reaching(self.url):
            self._fs.put_file(str(path), self._path(name), max_concurrency=PUT_AT_ONCE)
        return self._put(name)

    def write(self, name: str, data: bytes, *, instead_of: str | None) -> str | None:
        """Puts a small object, if the one that is there is the one that we know.

        Args:
            name, data: the object.
            instead_of: the etag of what is there; None: nothing is.

        Returns:
            Its etag; None: something else is there, and stays.
        """
        only = {"IfMatch": f'"{instead_of}"'} if instead_of else {"IfNoneMatch": "*"}
        with reaching(self.url):
            try:
                told = self._call("put_object", name, Body=data, **only)
                return _plain(told["ETag"])
            except OSError as error:
                if _code(error) not in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
                    raise
        # An answer that was lost on its way is followed by this one to the next try.
        found = self.read(name)
        return found.etag if found and found.data == data else None

    def drop(self, names: Iterable[str]) -> None:
        """Drops objects; those that are not there are dropped already."""
        keys = [{"Key": self._key(name)} for name in names]
        for at in range(0, len(keys), DROPPED_AT_ONCE):
            some = {"Objects": keys[at : at + DROPPED_AT_ONCE], "Quiet": True}
            with reaching(self.url):
                told = self._fs.call_s3("delete_objects", Bucket=self.name, Delete=some)
            for error in told.get("Errors", [])[:1]:
                raise BucketError(f"{self.url}: {error['Key']} cannot be dropped: {error['Code']}")

    def drop_partial(self) -> int:
        """Drops uploads that were begun and not ended, and says how many."""
        begin, dropped = f"{self.prefix}/" if self.prefix else "", 0
        with reaching(self.url):
            told = self._fs.call_s3("list_multipart_uploads", Bucket=self.name, Prefix=begin)
            for each in told.get("Uploads", []):
                self._fs.call_s3("abort_multipart_upload", Bucket=self.name, Key=each["Key"],
                                 UploadId=each["UploadId"])  # fmt: skip
                dropped += 1
        return dropped

    def _put(self, name: str) -> Stat:
        found = self.stat(name)
        if found is None:
            raise BucketError(f"{self.url}/{name} was put, and is not there: is somebody else at "
                              "work in this bucket?")  # fmt: skip
        return found

    def _call(self, method: str, name: str, **more: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self.name, Key=self._key(name), **more)

    def _key(self, name: str) -> str:
        return "/".join(filter(None, (self.prefix, name)))

    def _path(self, name: str) -> str:
        return "/".join(filter(None, (self.name, self._key(name))))


def is_url(place: object) -> TypeGuard[str]:
    """Whether a place is a bucket's."""
    return isinstance(place, str) and place.startswith(SCHEME)


def _connect(tries: int, read_seconds: float) -> s3fs.S3FileSystem:
    try:
        import s3fs
    except ImportError:
        raise UsageError(
            "s3:// needs the extra s3: python -m pip install 'dlr-reconcile[s3]'"
        ) from None
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        parts = urlsplit(os.environ.get(name, ""))
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise SettingsError(f"{name}: http:// is for loopback only, use https://")
    files = s3fs.S3FileSystem(
        use_listings_cache=False, skip_instance_cache=True, default_cache_type="none",
        config_kwargs={
            "connect_timeout": min(CONNECT_SECONDS, read_seconds), "read_timeout": read_seconds,
            "retries": {"total_max_attempts": tries, "mode": "standard"},
        },
    )  # fmt: skip
    files.retries = ROUNDS if tries > 1 else 1
    return files


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """What a bucket refuses, or does not answer, is one line of ours.

    Raises:
        BucketError: it did.
    """
    from aiohttp import ClientError as ConnectionLost
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except BucketError:
        raise
    except (OSError, BotoCoreError, ClientError, ConnectionLost) as error:
        raise BucketError(f"{url} {_why(error)}") from None


_GONE = ("NoSuchBucket", "404")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_REFUSED = (
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken",
    "AllAccessDisabled", "403", "Forbidden", "AuthFailure",
)  # fmt: skip
_BUSY = ("SlowDown", "InternalError", "ServiceUnavailable", "500", "502", "503", "504")


def _why(error: Exception) -> str:
    """What a bucket has against it, and how to mend it."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    code = _code(error)
    told = code or first_line(error)
    if code in _EXPIRED:
        return f"says that the credentials have expired ({code}): renew them, and run again"
    if code in _REFUSED or isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (f"lets us not in ({told}): check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, "
                "or the machine's role), and that they may list, read, put and delete")  # fmt: skip
    if code in _GONE or isinstance(error, FileNotFoundError):
        return "cannot be used, there is no such bucket: make it, or correct its name"
    if code in _BUSY:
        return f"was not to be had in {TRIES} tries ({code}): run again later"
    if code:
        return f"refused ({code}: {first_line(error)})"
    if getattr(error, "filename", None) or getattr(error, "errno", None) in (28, 13, 30):
        return f"cannot be copied to this machine: {first_line(error)}"
    return f"cannot be reached ({told}): check the network, and AWS_ENDPOINT_URL if it is set"


def _code(error: BaseException) -> str:
    """The server's own word for an error; "": it said none."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _stat(told: dict[str, Any], size: int) -> Stat:
    return Stat(_plain(told["ETag"]), size, told["LastModified"])


def _plain(etag: str) -> str:
    return etag.strip('"')


def _date(told: str | None) -> datetime | None:
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(told) if told else None
