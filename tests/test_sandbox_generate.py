"""The generator keeps what it promises: each message labelled, each line accounted for."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from reconcile.errors import UsageError
from reconcile.sandbox.faults import BY_NAME, FAULTS, ORPHAN
from reconcile.sandbox.generate import Generated, generate
from reconcile.sandbox.places import FAKE_LOOKING, NETWORKS, SENDERS

MESSAGES, DAYS, SEED, CHUNK = 20_000, 3, 7, 3_000
SPELLINGS = {"messageId": "message-id", "message_id": "message-id"}


@dataclass(frozen=True)
class Traffic:
    """A generated folder, read back with nothing of the package."""

    made: Generated
    about: dict[str, Any]
    messages: dict[str, dict[str, Any]]
    truth: list[dict[str, Any]]
    receipts: list[dict[str, str]]
    others: Counter[str]

    def of(self, fault: str) -> list[tuple[dict[str, Any], list[dict[str, str]]]]:
        """The messages of a fault, each with its receipts."""
        by_id = defaultdict(list)
        for receipt in self.receipts:
            by_id[receipt["message-id"]].append(receipt)
        ids = [each["message_id"] for each in self.truth if each["fault"] == fault]
        return [(self.messages[i], by_id[i]) for i in ids]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    folder = tmp_path_factory.mktemp("traffic") / "new"
    made = generate(folder, messages=MESSAGES, days=DAYS, seed=SEED, chunk=CHUNK)
    about = json.loads((folder / "sandbox.json").read_text("utf-8"))
    rows = [row for file in worlds(folder) for row in pq.ParquetFile(file).read().to_pylist()]
    assert len({row["message_id"] for row in rows}) == len(rows), "an id is there twice"
    receipts, others = read_captures(folder / "dlr")
    return Traffic(
        made,
        about,
        {row["message_id"]: row for row in rows},
        pq.read_table(folder / "truth.parquet").to_pylist(),
        receipts,
        others,
    )


def worlds(folder: Path) -> list[Path]:
    return sorted((folder / "world").glob("day=*/*.parquet"))


def read_captures(folder: Path) -> tuple[list[dict[str, str]], Counter[str]]:
    """Every receipt with its file and hyphened names, and how many lines were something else."""
    receipts, others = [], Counter[str]()
    for file in sorted(folder.iterdir()):
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
        header = next(csv.reader([lines.pop(0)])) if ".csv" in file.name else None
        for line in lines:
            others["lines"] += 1
            if not line:
                others["blank"] += 1
            elif (fields := parse(line, header)) is None or "status" not in fields:
                others["rejects"] += 1
            else:
                named = {SPELLINGS.get(k, k).replace("_", "-"): v for k, v in fields.items()}
                receipts.append({**named, "file": file.name})
    return receipts, others


def parse(line: str, header: list[str] | None) -> dict[str, str] | None:
    try:
        fields = dict(zip(header, next(csv.reader([line])), strict=True)) if header else {}
        return fields or json.loads(line)
    except ValueError:
        return None


def pushed_at(receipt: dict[str, str]) -> datetime:
    moment = datetime.fromisoformat(receipt["message-timestamp"].replace(" +0000", "+00:00"))
    return moment.replace(tzinfo=UTC)


def test_every_fault_is_there_as_often_as_it_says(traffic: Traffic) -> None:
    """Labels, counts in sandbox.json and the shares of FAULTS agree."""
    labels = Counter(each["fault"] for each in traffic.truth if each["fault"])
    orphans = pq.read_table(traffic.made.folder / "orphans.parquet").num_rows
    assert {**labels, ORPHAN.name: orphans} == traffic.about["faults"] == traffic.made.faults
    for fault in FAULTS:
        assert traffic.about["faults"][fault.name] == max(1, round(MESSAGES * fault.share))


def test_even_little_traffic_has_every_fault(tmp_path: Path) -> None:
    """From 5000 messages on, none is left out."""
    made = generate(tmp_path / "little", messages=5_000, days=2, seed=1)
    assert min(made.faults.values()) >= 1


def test_the_faults_are_about_a_tenth_of_the_traffic() -> None:
    """Most traffic is honest, or the baselines would be of faults."""
    assert 0.08 <= sum(fault.share for fault in FAULTS) <= 0.12
    assert len(BY_NAME) == len(FAULTS)


def test_the_truth_knows_each_message_once(traffic: Traffic) -> None:
    """As many verdicts as messages, of the very same ids."""
    ids = [each["message_id"] for each in traffic.truth]
    assert len(ids) == len(traffic.messages) == MESSAGES
    assert set(ids) == set(traffic.messages)


def test_the_truth_is_the_label_s(traffic: Traffic) -> None:
    """Verdict and reason are those that FAULTS shows; the rest is confirmed without a reason."""
    for each in traffic.truth:
        fault = BY_NAME.get(each["fault"])
        due = (fault.verdict, fault.reason) if fault else ("confirmed", None)
        assert (each["verdict"], each["reason"]) == due


def test_orphans_belong_to_no_message_and_all_other_receipts_to_one(traffic: Traffic) -> None:
    """The ids of receipts are those of messages and of orphans."""
    orphans = pq.read_table(traffic.made.folder / "orphans.parquet")["message_id"].to_pylist()
    heard = {receipt["message-id"] for receipt in traffic.receipts}
    assert not set(orphans) & set(traffic.messages)
    assert heard - set(traffic.messages) == set(orphans)


def test_every_line_is_a_receipt_or_counted_apart(traffic: Traffic) -> None:
    """Captured lines = receipts + rejects + blank."""
    about, others = traffic.about, traffic.others
    assert (len(traffic.receipts), others["rejects"], others["blank"]) == (
        about["receipts"], about["rejects"], about["blank"],
    )  # fmt: skip
    assert others["lines"] == about["receipts"] + about["rejects"] + about["blank"]
    assert about["rejects"] > 0
    assert about["blank"] > 0


def test_captures_are_of_every_style(traffic: Traffic) -> None:
    """NDJSON and CSV, plain and compressed; three forms of the time; one without capture time."""
    endings = {"".join(Path(receipt["file"]).suffixes) for receipt in traffic.receipts}
    assert endings == {".ndjson", ".ndjson.gz", ".csv", ".csv.gz"}
    forms = {re.sub(r"\d", "0", receipt["message-timestamp"]) for receipt in traffic.receipts}
    assert forms == {
        "0000-00-00 00:00:00", "0000-00-00 00:00:00 +0000", "0000-00-00T00:00:00.000+00:00",
    }  # fmt: skip
    untimed = {receipt["file"][:8] for receipt in traffic.receipts if "captured-at" not in receipt}
    assert untimed == {"archive-"}


def test_a_file_holds_what_was_captured_on_its_day(traffic: Traffic) -> None:
    """As a daily log does."""
    for receipt in traffic.receipts:
        if "captured-at" in receipt:
            assert receipt["captured-at"][:10] in receipt["file"]
            assert datetime.fromisoformat(receipt["captured-at"]) >= pushed_at(receipt)


def test_in_a_receipt_to_is_the_sender(traffic: Traffic) -> None:
    """The name trap: msisdn is the handset, `to` is who sent."""
    senders = {*SENDERS, *(network.sender for network in NETWORKS)}
    for receipt in traffic.receipts:
        assert receipt["to"] in senders
        assert re.fullmatch(r"\d{1,3}000\d{6}", receipt["msisdn"])


def test_numbers_are_nobody_s(traffic: Traffic) -> None:
    """Each is its country's dial code, 000 and six digits; some come back."""
    dial = {network.country.code: network.country.dial for network in NETWORKS}
    numbers = [(row["to"], row["country"]) for row in traffic.messages.values()]
    assert all(re.fullmatch(rf"{dial[country]}000\d{{6}}", to) for to, country in numbers)
    assert len(set(numbers)) < len(numbers)


def test_namibia_stays_a_word(traffic: Traffic) -> None:
    """`NA` is a country, not a missing one."""
    namibian = [row for row in traffic.messages.values() if row["country"] == "NA"]
    assert {row["network"] for row in namibian} == {"64901", "64903"}
    assert {row["country_name"] for row in namibian} == {"Namibia"}
    assert None not in {row["country"] for row in traffic.messages.values()}


def test_ids_tempt_a_spreadsheet(traffic: Traffic) -> None:
    """Leading zeros, exponents and nothing but digits are among them."""
    for form in ("0[0-9A-F]{15}", r"\d{16}", r"\d+E\d+", "0E.*"):
        assert any(re.fullmatch(form, name) for name in traffic.messages), form
    assert all(re.fullmatch("[0-9A-F]{16}", name) for name in traffic.messages)


def test_ids_do_not_depend_on_chunks(traffic: Traffic, tmp_path: Path) -> None:
    """Another size of chunks gives the same messages their ids."""
    generate(tmp_path / "new", messages=MESSAGES, days=DAYS, seed=SEED, chunk=CHUNK * 3)
    ids = pq.read_table(tmp_path / "new" / "truth.parquet")["message_id"].to_pylist()
    assert ids == [each["message_id"] for each in traffic.truth]


def test_times_and_latency_agree(traffic: Traffic) -> None:
    """The API's whole seconds and its milliseconds tell the same story."""
    for row in traffic.messages.values():
        final = row["date_finalized"]
        assert (final is None) == (row["latency"] is None) == (row["status"] is None)
        assert row["date_received"].microsecond == 0
        if final is not None:
            apart = final - row["date_received"] - timedelta(milliseconds=row["latency"])
            assert abs(apart) < timedelta(seconds=1)


def test_a_day_is_sorted_and_nothing_but_its_day(traffic: Traffic) -> None:
    """Across the files of a day too; the days are those asked for."""
    by_day: dict[str, list[datetime]] = defaultdict(list)
    for file in worlds(traffic.made.folder):
        received = pq.ParquetFile(file).read(["date_received"])["date_received"]
        by_day[file.parent.name].extend(received.to_pylist())
    assert list(by_day) == ["day=2026-01-05", "day=2026-01-06", "day=2026-01-07"]
    for name, times in by_day.items():
        assert times == sorted(times)
        assert {f"day={moment.date()}" for moment in times} == {name}


def test_columns_of_the_world(traffic: Traffic) -> None:
    """Plain types that any reader knows."""
    schema = pq.read_schema(worlds(traffic.made.folder)[0])
    kinds = {field.name: str(field.type) for field in schema}
    assert kinds["date_received"] == kinds["date_finalized"] == "timestamp[us, tz=UTC]"
    assert kinds["total_price"] == "decimal128(18, 8)"
    assert kinds["latency"] == kinds["validity_period"] == "int64"
    assert {kinds[name] for name in ("id", "from", "country", "status")} == {"string"}
    assert len(kinds) == 26


def test_everything_has_happened_when_it_is_mature(traffic: Traffic) -> None:
    """No receipt and no end comes after `mature_at`, and webhooks had a day to be retried."""
    mature_at = datetime.fromisoformat(traffic.about["mature_at"])
    assert mature_at == traffic.made.mature_at
    assert f"--as-of {traffic.about['mature_at']}" in traffic.about["command"]
    captured = [r["captured-at"] for r in traffic.receipts if "captured-at" in r]
    assert datetime.fromisoformat(max(captured)) <= mature_at
    for row in traffic.messages.values():
        valid = timedelta(milliseconds=row["validity_period"])
        assert row["date_received"] + valid + timedelta(hours=24) < mature_at
        assert row["date_finalized"] is None or (
            row["date_finalized"] + timedelta(hours=24) < mature_at
        )


@pytest.mark.parametrize(
    ("fault", "receipts"),
    [
        ("lost_webhook", {()}),
        ("lost_final_webhook", {("accepted",)}),
        ("silent_carrier", {(), ("accepted",), ("buffered",)}),
        ("status_unknown_receipt", {("unknown",)}),
        ("never_final_record", {("delivered",)}),
        ("conflicting_finals", {("delivered", "failed")}),
        ("unmapped_status", {("throttled",)}),
        ("disorder", {("accepted", "delivered")}),
        ("fake_looking_network", {("delivered",)}),
    ],
)
def test_a_fault_s_messages_have_its_receipts(
    traffic: Traffic, fault: str, receipts: set[tuple[str, ...]]
) -> None:
    """The label says what there is to see."""
    seen = {tuple(sorted(r["status"] for r in heard)) for _, heard in traffic.of(fault)}
    assert seen == receipts


@pytest.mark.parametrize("fault", ["duplicate", "retried_webhook"])
def test_a_duplicate_differs_in_its_capture_only(traffic: Traffic, fault: str) -> None:
    """However its file spells the names and the time."""
    for _, heard in traffic.of(fault):
        apart = {"captured-at", "file", "message-timestamp"}
        same = {tuple(sorted((k, v) for k, v in r.items() if k not in apart)) for r in heard}
        assert len(heard) >= 2
        assert len(same) == len({pushed_at(receipt) for receipt in heard}) == 1


def test_expired_by_the_platform_is_at_its_deadline_and_by_a_carrier_far_from_it(
    traffic: Traffic,
) -> None:
    """The one is a fault, the other an honest end."""
    faulty = {each["message_id"]: each["fault"] for each in traffic.truth}
    for name, row in traffic.messages.items():
        if row["status"] == "expired":
            apart_ms = abs(row["latency"] - row["validity_period"])
            at_deadline = apart_ms <= min(900_000, row["validity_period"] // 10)
            assert at_deadline == (faulty[name] == "platform_expired")


def test_a_network_looks_fake_for_its_own_messages_only(traffic: Traffic) -> None:
    """All of its traffic carries the label, and it is fast and never fails."""
    code = NETWORKS[FAKE_LOOKING].code
    own = {row["message_id"] for row in traffic.messages.values() if row["network"] == code}
    labelled = traffic.of("fake_looking_network")
    assert own == {row["message_id"] for row, _ in labelled}
    assert {row["status"] for row, _ in labelled} == {"delivered"}
    assert max(row["latency"] for row, _ in labelled) < 400
    assert code not in {r["network-code"] for r in traffic.receipts if r["message-id"] not in own}


def test_the_world_is_of_many_places(traffic: Traffic) -> None:
    """Twelve countries, thirty networks, one of them a word."""
    assert len({row["country"] for row in traffic.messages.values()}) == 12
    assert {row["network"] for row in traffic.messages.values()} == {n.code for n in NETWORKS}
    assert any(n.code == "US-FIXED" for n in NETWORKS)


def test_the_same_arguments_make_the_same_bytes(tmp_path: Path) -> None:
    """Captures, truth, orphans, world and sandbox.json: nothing random or timed gets in."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        generate(folder, messages=3_000, days=2, seed=5, chunk=1_000)
    names = sorted(f.relative_to(first) for f in first.rglob("*") if f.is_file())
    assert names == sorted(f.relative_to(second) for f in second.rglob("*") if f.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_another_seed_makes_other_traffic(tmp_path: Path) -> None:
    """Ids and faults lie elsewhere."""
    for seed in (5, 6):
        generate(tmp_path / str(seed), messages=500, days=1, seed=seed)
    ids = [pq.read_table(tmp_path / seed / "truth.parquet")["message_id"] for seed in ("5", "6")]
    assert not pc.any(pc.is_in(ids[0], value_set=ids[1].combine_chunks())).as_py()


def test_one_message_is_enough(tmp_path: Path) -> None:
    """More days than messages: the first days stay empty, the total holds."""
    made = generate(tmp_path / "one", messages=1, days=3, seed=1, start=date(2027, 3, 1))
    assert [pq.ParquetFile(file).metadata.num_rows for file in worlds(made.folder)] == [1]
    assert made.messages == 1


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """Nothing of somebody else's is overwritten; an empty folder will do."""
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="is not empty"):
        generate(tmp_path, messages=10, days=1, seed=1)
    with pytest.raises(UsageError, match="is not empty"):
        generate(tmp_path / "mine.txt", messages=10, days=1, seed=1)
    (tmp_path / "empty").mkdir()
    assert generate(tmp_path / "empty", messages=10, days=1, seed=1).messages == 10


@pytest.mark.parametrize(("messages", "days", "name"), [(0, 1, "messages"), (10, 0, "days")])
def test_numbers_less_than_one_are_refused(
    tmp_path: Path, messages: int, days: int, name: str
) -> None:
    """In one line that names the number, before anything is written."""
    with pytest.raises(UsageError, match=f"{name} must be at least 1, not 0"):
        generate(tmp_path / "none", messages=messages, days=days, seed=1)
    assert not (tmp_path / "none").exists()
