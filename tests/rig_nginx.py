"""An ordeal: callbacks to a real nginx, whose log is rotated, renamed, packed, truncated and read.

    python -m tests.rig_nginx --callbacks 20000 --seed 1

nginx and logrotate run as children with the sample files, in a folder of their own. While callbacks
are sent, the log is mistreated in a random order, and `reconcile ingest` reads it now and then. At
the end every callback that was answered with 2xx must be one receipt.
"""

from __future__ import annotations

import argparse
import base64
import bz2
import grp
import gzip
import json
import lzma
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import requests

SAMPLES = Path(__file__).parent.parent / "sample_data"
NGINX_CONF, LOGROTATE_CONF = SAMPLES / "nginx-dlr.conf", SAMPLES / "logrotate-dlr.conf"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ME = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}  # fmt: skip
Tell = Callable[[str], None]
SENDERS = 3
PATIENCE_SECONDS = 10.0
MOST_SHOWN = 5
# A capture that is packed, renamed or truncated while it is read cannot be read that moment.
PASSING = "cut short", "No such file", "cut or replaced while it was read"


def lacking() -> str:
    """What the rig needs and this machine has not, by name; empty if it has all."""
    missing = [name for name in ("nginx", "logrotate") if not shutil.which(name, path=PATH)]
    return " and ".join(missing + ([] if Path("/proc/self/fd").exists() else ["/proc"]))


# nginx and logrotate


@dataclass
class Nginx:
    """A running nginx with the sample's configuration.

    Attributes:
        folder: of its files; the captures lie in `dlr`.
        url: where callbacks are sent to.
        process: its master.
    """

    folder: Path
    url: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """The file that it writes to."""
        return self.folder / "dlr" / "dlr.ndjson"

    def held(self) -> set[Path]:
        """The files that its processes have open."""
        master = self.process.pid
        workers = Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split()
        found = set()
        for pid in [str(master), *workers]:
            try:
                found |= {fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()}
            except FileNotFoundError:  # it ended, or closed a file, while we looked
                found |= self.held()
        return found

    def settled(self) -> None:
        """Waits until it has no capture open but the newest."""
        until = time.monotonic() + PATIENCE_SECONDS
        while {p for p in self.held() if p.parent == self.log.parent} != {self.log}:
            if time.monotonic() > until:
                raise TimeoutError("nginx did not open its new log")
            time.sleep(0.01)

    def reload(self) -> None:
        """Lets it read its configuration again, with new workers."""
        self.process.send_signal(signal.SIGHUP)

    def rotate(self) -> None:
        """Rotates its log as the sample says."""
        self.settled()
        captures = self.log.parent
        places = {
            "/var/log/dlr": str(captures), "/run/nginx.pid": str(self.folder / "pid"),
            "www-data reconcile": f"{captures.owner()} {captures.group()}",
            "rotate 30": "rotate 9999",
        }  # fmt: skip
        self._logrotate(adapted(LOGROTATE_CONF, places))

    def copytruncate(self) -> None:
        """Rotates its log by copying it, then truncating it; what is sent meanwhile may be lost."""
        self.settled()
        options = "rotate 9999", "copytruncate", "compress", "delaycompress", "notifempty"
        self._logrotate("\n".join([f"{self.log} {{", *options, "}\n"]))

    def _logrotate(self, text: str) -> None:
        config = self.folder / "logrotate.conf"
        config.write_text(text)
        config.chmod(0o644)
        program = shutil.which("logrotate", path=PATH) or "logrotate"
        state = str(self.folder / "logrotate.state")
        ended = subprocess.run(
            [program, "--force", "--state", state, str(config)], capture_output=True, text=True
        )
        if ended.returncode or ended.stderr:
            raise RuntimeError(f"logrotate: exit {ended.returncode}: {ended.stderr}")


@contextmanager
def running(folder: Path, user: tuple[str, str] = ME) -> Iterator[Nginx]:
    """Starts nginx with the sample's configuration on free ports; it ends with the block.

    Args:
        folder: an empty one.
        user: whose the workers and the captures are, and their group; root may name another.
    """
    captures = folder / "dlr"
    captures.mkdir()
    if user != ME:
        shutil.chown(captures, *user)
    captures.chmod(0o750)
    front, back = _free_ports()
    places = {
        "listen 8080;": f"listen 127.0.0.1:{front};", "127.0.0.1:8081": f"127.0.0.1:{back}",
        "/var/log/dlr": str(captures),
    }  # fmt: skip
    (folder / "dlr.conf").write_text(adapted(NGINX_CONF, places))
    scratch = "".join(
        f"{name}_temp_path {folder / name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{f'user {user[0]};' if os.geteuid() == 0 else ''}\n"
        f"daemon off;\nworker_processes 2;\npid {folder / 'pid'};\n"
        f"error_log {folder / 'error.log'};\nevents {{ worker_connections 256; }}\n"
        f"http {{\n{scratch}include {folder / 'dlr.conf'};\n}}\n"
    )
    program = shutil.which("nginx", path=PATH) or "nginx"
    command = [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _await(front, process)
            yield Nginx(folder, f"http://127.0.0.1:{front}/dlr", process)
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)


def adapted(sample: Path, places: dict[str, str]) -> str:
    """The text of a sample file with other places in it, each of which it must name."""
    text = sample.read_text("utf-8")
    for place, other in places.items():
        if place not in text:
            raise ValueError(f"{sample.name} does not name {place}")
        text = text.replace(place, other)
    return text


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nginx did not start: exit {process.poll()}")


# Callbacks

WAYS = ("get", "form", "json", "messages")
REFS = (
    "plain-ref", "a&b=c", "100%", "100%25", "a+b c", "Grüße, Ärger & Öl", 'say "hi"', "it's",
    "C:\\new\\u0041\\", '{"messageId":"FAKE","status":"failed"}', "messageId=FAKE&status=failed",
    "tab\tline\nend", "日本 😀", "<a href='?x=1#y;z'>", "[1,2]", "null", "-", "007", "1e5",
)  # fmt: skip
TIMES = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S +0000", "%Y-%m-%dT%H:%M:%S.000+00:00"
FIRST = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Callback:
    """One callback.

    Attributes:
        way: get, form, json or messages; or empty (no receipt), or large (refused).
        payload: what is sent.
        wanted: columns of the receipt that it should become; empty if it is none.
    """

    way: str
    payload: dict[str, Any]
    wanted: dict[str, Any]

    def send(self, session: requests.Session, url: str) -> int:
        """Sends it; returns the status of the answer."""
        return self._request(session, url).status_code

    def _request(self, session: requests.Session, url: str) -> requests.Response:
        if self.way in ("get", "empty"):
            return session.get(url, params=self.payload, timeout=30)
        if self.way == "form":
            return session.post(url, data=self.payload, timeout=30)
        headers = {"Content-Type": "application/json"}
        if self.way == "messages":
            headers["Authorization"] = f"Bearer {JWT}"
        text = json.dumps(self.payload, ensure_ascii=len(str(self.payload)) % 2 == 0)
        return session.post(url, data=text.encode(), headers=headers, timeout=30)


def _jwt() -> str:
    """A token of the right shape, which nobody has signed."""
    parts = {"alg": "HS256", "typ": "JWT"}, {"iss": "Vonage", "api_key": "5a4d0b0e"}
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in coded), "AAAA"])


JWT = _jwt()


def callback(rng: random.Random, number: int, way: str, ref: str | None) -> Callback:
    """One callback with this client-ref; no two numbers give the same message id."""
    if way == "empty":
        return Callback(way, {}, {})
    if way == "messages":
        return _status_webhook(rng, ref)
    pushed = FIRST + timedelta(seconds=rng.randrange(3 * 86_400))
    status, error = rng.choice([
        ("delivered", "0"), ("failed", "6"), ("expired", "1"), ("accepted", None),
        ("buffered", "0"), ("rejected", "9"),
    ])  # fmt: skip
    form = rng.choice(TIMES)
    payload = {
        "msisdn": f"4477009000{rng.randrange(100):02}",
        "to": rng.choice(["Acme & Söhne", "447700900099"]),
        "network-code": rng.choice(["23410", None]), "messageId": f"{number:016X}",
        "price": f"0.{rng.randrange(10**8):08}", "status": status,
        "scts": rng.choice([pushed.strftime("%y%m%d%H%M"), None]), "err-code": error,
        "api-key": "5a4d0b0e", "client-ref": ref, "message-timestamp": pushed.strftime(form),
    }  # fmt: skip
    wanted = {
        "message_id": payload["messageId"], "product": "SMS", "account_id": "5a4d0b0e",
        "client_ref": ref, "sender": payload["to"], "recipient": payload["msisdn"],
        "network_code": payload["network-code"], "status": status, "error_code": error,
        "price": Decimal(str(payload["price"])), "pushed_at": pushed, "scts": payload["scts"],
        "signature": "unsigned",
    }  # fmt: skip
    if way == "large":
        payload["client-ref"] = "x" * 20_000
    return Callback(way, {k: v for k, v in payload.items() if v is not None}, wanted)


def _status_webhook(rng: random.Random, ref: str | None) -> Callback:
    """A status of the Messages API."""
    pushed = FIRST + timedelta(milliseconds=rng.randrange(3 * 86_400_000))
    status, error = rng.choice([("submitted", None), ("delivered", None), ("rejected", 1300)])
    payload: dict[str, Any] = {
        "message_uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "to": f"4477009000{rng.randrange(100):02}", "from": "Acme", "channel": "sms",
        "timestamp": pushed.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": status, "usage": {"currency": "EUR", "price": "0.0333"},
        "destination": {"network_code": "23410"}, "sms": {"count_total": "1"},
    }  # fmt: skip
    if ref is not None:
        payload["client_ref"] = ref
    if error:
        kind = f"https://developer.nexmo.com/api-errors/messages-olympus#{error}"
        payload["error"] = {"type": kind, "title": error, "detail": "Not sent", "instance": "i"}
    wanted = {
        "message_id": payload["message_uuid"], "product": "MESSAGES", "client_ref": ref,
        "sender": "Acme", "recipient": payload["to"], "network_code": "23410", "status": status,
        "error_code": str(error) if error else None, "price": Decimal("0.0333"),
        "pushed_at": pushed, "signature": "unverifiable",
    }  # fmt: skip
    return Callback("messages", payload, wanted)


def callbacks(rng: random.Random, count: int) -> list[Callback]:
    """A mixture: receipts in every way, now and then what is none, or is refused."""
    ways = rng.choices([*WAYS, "empty", "large"], [30, 30, 30, 30, 2, 2], k=count)
    return [callback(rng, n, way, rng.choice([*REFS, None])) for n, way in enumerate(ways)]


@dataclass
class Sent:
    """Callbacks by how they were answered: with 2xx, with another status, or not at all."""

    taken: list[Callback] = field(default_factory=list)
    refused: list[Callback] = field(default_factory=list)
    unanswered: list[Callback] = field(default_factory=list)

    def send(self, url: str, batch: list[Callback]) -> None:
        """Sends these one after the other over one connection."""
        with requests.Session() as session:
            session.trust_env = False
            for one in batch:
                try:
                    status = one.send(session, url)
                except requests.ConnectionError:
                    self.unanswered.append(one)
                else:
                    (self.taken if 200 <= status < 300 else self.refused).append(one)


# What became of them


def logged(captures: Path, lines: int) -> list[dict[str, Any]]:
    """The lines of all captures of a folder, once there are so many: nginx answers, then logs."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        text = b"".join(map(_unpacked, sorted(captures.iterdir())))
        if text.count(b"\n") >= lines or time.monotonic() > until:
            return [json.loads(line) for line in text.decode().split("\n")[:-1]]
        time.sleep(0.01)


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def ingest(folder: Path, pattern: str) -> subprocess.CompletedProcess[str]:
    """Runs `reconcile ingest` as a person would, into a store in this folder."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    return subprocess.run(
        [sys.executable, "-m", "reconcile.cli", "ingest", "--store", str(folder / "store"),
         "--pii", "keep", pattern],
        env=plain | {"XDG_CONFIG_HOME": str(folder)}, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def stored(folder: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table of that store."""
    files = sorted((folder / "store" / table).glob(f"day=*/{table}.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


@dataclass(frozen=True)
class Ended:
    """How an ordeal ended.

    Attributes:
        taken, refused, unanswered: callbacks by how nginx answered.
        receipts: rows of `receipts`.
        lost: message ids that were answered with 2xx, and are no row.
        twice: message ids that are several rows, with their places.
        strange: message ids of rows that were never answered with 2xx.
        differing: rows that do not say what was sent.
        empty, rejects: callbacks that are no receipts, and rows of `rejects`.
        changed: whether an ingest more changed anything.
        failed: what an ingest said that did not end with 0, though not only for a `PASSING` reason,
            or at the end.
        passing: how many did for such a reason, meanwhile.
        done: how often each thing was done.
    """

    taken: int
    refused: int
    unanswered: int
    receipts: int
    lost: list[str]
    twice: list[str]
    strange: list[str]
    differing: list[str]
    empty: int
    rejects: int
    changed: bool
    failed: list[str]
    passing: int
    done: dict[str, int]


class Ordeal:
    """What may happen to a log, each a method; callbacks arrive meanwhile, unless it waits."""

    ANY = ("rotate", "reload", "move", "pack", "copy", "half", "ingest", "ingest", "ingest",
           "copytruncate", "truncate", "forget")  # fmt: skip

    def __init__(self, nginx: Nginx, pool: ThreadPoolExecutor, rng: random.Random, tell: Tell):
        self.nginx, self.pool, self.rng, self.tell = nginx, pool, rng, tell
        self.sent, self.done = Sent(), Counter[str]()
        self.failed, self.passing = list[str](), 0
        self.over = False
        self.sending: list[Future[None]] = []
        self.reading: Future[None] | None = None
        self.number = 0

    def send(self, batch: list[Callback]) -> None:
        """Begins to send these."""
        for n in range(SENDERS):
            own = self.pool.submit(self.sent.send, self.nginx.url, batch[n::SENDERS])
            self.sending.append(own)

    def quiet(self) -> None:
        """Waits until all are sent and logged: nginx answers first, and logs then."""
        while self.sending:
            self.sending.pop().result()
        time.sleep(0.2)

    def do(self, name: str) -> None:
        """One of them."""
        self.done[name] += 1
        sent = self.sent
        count = len(sent.taken) + len(sent.refused) + len(sent.unanswered)
        what = getattr(self, name)()
        self.tell(f"{name} {what or ''}, begun after {count} callbacks")

    def ingest(self) -> None:
        """Begins to read all captures."""
        self.read()
        self.reading = self.pool.submit(self._ingest)

    def read(self) -> None:
        """Waits for a reading that was begun."""
        if self.reading:
            self.reading.result()
        self.reading = None

    def read_all(self) -> None:
        """Reads all captures, and waits for it."""
        self.ingest()
        self.read()

    def _ingest(self) -> None:
        ended = ingest(self.nginx.folder, str(self.nginx.log.parent / "*"))
        said = ended.stderr.splitlines()
        if ended.returncode and not self.over and all(_passes(line) for line in said):
            self.passing += 1
        elif ended.returncode or said:
            self.failed.append(f"exit {ended.returncode}: {ended.stderr.strip()[-500:]}")

    def rotate(self) -> None:
        """logrotate renames the log and packs the one before."""
        self.nginx.rotate()

    def reload(self) -> None:
        """nginx replaces its workers."""
        self.nginx.reload()

    def move(self) -> str:
        """A rotated log gets another name, even while nginx still writes to it."""
        path = self.rng.choice(self._rotated())
        return f"{path.name} to {path.rename(self._beside('moved', path.suffix)).name}"

    def pack(self) -> str:
        """A rotated log is packed by one of the programs that people use."""
        path, suffix = self._finished(), self.rng.choice(list(PACKERS))
        packed = self._beside("packed", suffix)
        packed.write_bytes(PACKERS[suffix](path.read_bytes()))
        path.unlink()
        return f"{path.name} to {packed.name}"

    def copy(self) -> str:
        """Somebody copies a rotated log into the same folder."""
        path = self._finished()
        return f"{path.name} to {shutil.copy(path, self._beside('copy', path.suffix)).name}"

    def half(self) -> str:
        """A rotated log is read while it is being packed."""
        path, packed = self._finished(), self._beside("slow", ".gz")
        content = gzip.compress(path.read_bytes())
        with packed.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            self.read_all()
            file.write(content[len(content) // 2 :])
        path.unlink()
        return f"{path.name} to {packed.name}"

    def copytruncate(self) -> None:
        """logrotate copies the log and truncates it, maybe while it is read."""
        self.quiet()
        self.nginx.copytruncate()

    def truncate(self) -> None:
        """Somebody empties the log, after it was read."""
        self.quiet()
        self.read_all()
        if not self.failed:
            os.truncate(self.nginx.log, 0)

    def forget(self) -> str:
        """A rotated log is removed, after it was read."""
        self.quiet()
        self.nginx.settled()
        path = self.rng.choice(self._rotated())
        self.quiet()
        self.read_all()
        if not self.failed:
            path.unlink()
        return path.name

    def _rotated(self) -> list[Path]:
        """All captures but the one that nginx writes to; there is one."""
        found = sorted(p for p in self.nginx.log.parent.iterdir() if p != self.nginx.log)
        return found or self._one_more(self._rotated)

    def _finished(self) -> Path:
        """A rotated log that is not packed, and that nginx has closed."""
        self.nginx.settled()
        plain = [p for p in self._rotated() if p.suffix not in PACKERS]
        return self.rng.choice(plain or [self._one_more(self._finished)])

    def _one_more(self, look: Callable[[], Any]) -> Any:
        """Looks again after another rotation, of a log that is not empty."""
        self.number += 1
        self.sent.send(self.nginx.url, [callback(self.rng, 10**9 + self.number, "get", None)])
        self.nginx.rotate()
        return look()

    def _beside(self, what: str, suffix: str) -> Path:
        """A name that no capture has; one that is packed keeps its ending."""
        self.number += 1
        ending = suffix if suffix in PACKERS else ""
        return self.nginx.log.with_name(f"{what}-{self.number}.log{ending}")

    def ended(self) -> Ended:
        """Reads what is left, and counts."""
        self.quiet()
        self.read()
        self.over = True
        self.read_all()
        rows, rejects = stored(self.nginx.folder, "receipts"), stored(self.nginx.folder, "rejects")
        self.read_all()
        again = stored(self.nginx.folder, "receipts"), stored(self.nginx.folder, "rejects")
        sent = self.sent
        wanted = {c.wanted["message_id"]: c.wanted for c in sent.taken if c.wanted}
        maybe = {c.wanted["message_id"]: c.wanted for c in sent.unanswered if c.wanted}
        held: dict[str, list[str]] = {}
        for row in rows:
            held.setdefault(row["message_id"], []).append(f"{row['source']}:{row['line']}")
        return Ended(
            taken=len(sent.taken), refused=len(sent.refused), unanswered=len(sent.unanswered),
            receipts=len(rows),
            lost=[i for i in wanted if i not in held],
            twice=[" ".join([i, *places]) for i, places in held.items() if len(places) > 1],
            strange=[i for i in held if i not in wanted and i not in maybe],
            differing=[text for row in rows
                       if (text := differing(row, (wanted | maybe).get(row["message_id"], {})))],
            empty=sum(not c.wanted for c in sent.taken), rejects=len(rejects),
            changed=again != (rows, rejects), failed=self.failed, passing=self.passing,
            done=dict(self.done),
        )  # fmt: skip


def _passes(line: str) -> bool:
    return any(reason in line for reason in PASSING)


def differing(row: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Where a row says something else than it should; empty if nowhere."""
    odd = {k: (row[k], value) for k, value in wanted.items() if row[k] != value}
    return f"{row['message_id']}: {odd}" if odd else ""


def ordeal(
    folder: Path, *, callbacks: list[Callback], steps: int, seed: int,
    tell: Tell = lambda _: None,
) -> Ended:  # fmt: skip
    """Sends all callbacks in so many portions, and does something to the log after each began.

    Args:
        folder: an empty one.
        callbacks: their message ids differ.
        steps: each thing is done at least once, if there are enough of them.
        seed: of what is done; the moments themselves are the machine's.
        tell: is told each step.
    """
    rng = random.Random(seed)
    names = [*Ordeal.ANY, *rng.choices(Ordeal.ANY, k=steps)][:steps]
    rng.shuffle(names)
    with running(folder) as nginx, ThreadPoolExecutor(4 * SENDERS) as pool:
        its = Ordeal(nginx, pool, rng, tell)
        for n, name in enumerate(names):
            its.send(callbacks[n::steps])
            time.sleep(rng.uniform(0, 0.1))
            its.do(name)
            if rng.random() < 0.5:
                its.quiet()
        return its.ended()


def main() -> None:
    """Goes through an ordeal in a folder of its own, and prints how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--callbacks", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    if missing := lacking():
        sys.exit(f"the rig needs {missing}")
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="rig-") as scratch:
        many = callbacks(random.Random(told.seed), told.callbacks)
        found = ordeal(Path(scratch), callbacks=many, steps=told.steps, seed=told.seed, tell=tell)
    for name, value in asdict(found).items():
        listed = f"{len(value)} {value[:MOST_SHOWN]}" if isinstance(value, list) else value
        print(f"{name}: {listed}")
    if found.lost or found.twice or found.strange or found.differing:
        sys.exit("a callback is not one receipt")
    if found.changed or found.failed or found.rejects != found.empty:
        sys.exit("an ingest did what it should not")


if __name__ == "__main__":
    main()
