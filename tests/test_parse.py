"""What Vonage sends, as pages or archives, becomes records and rejects."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconcile import border
from reconcile.days import day_window
from reconcile.errors import ContractError, ReportError
from reconcile.reports import parse, raw, unpack

DAY = day_window(date(2026, 1, 5))
AS_OF = datetime(2026, 1, 6, 2, tzinfo=UTC)
BASE = {"message_id": "0E000000C889DF7B", "date_received": "2026-01-05T10:00:00+0000",
        "status": "delivered"}  # fmt: skip
Rows = list[dict[str, Any]]


@pytest.fixture
def read(con: Any, tmp_path: Path) -> Callable[..., tuple[Rows, Rows]]:
    """Records and rejects of a raw slice, times as text."""

    def query(path: Path, pii: str = "keep") -> tuple[Rows, Rows]:
        records = f"""
            SELECT * REPLACE (received_at::VARCHAR AS received_at,
                              fetched_at::VARCHAR AS fetched_at,
                              finalized_at::VARCHAR AS finalized_at)
            FROM ({parse.records(path, "SMS", "5a4d0b0e", DAY, AS_OF, pii)}) ORDER BY message_id
        """
        rejects = f"SELECT * FROM ({parse.rejects(path, DAY, 'a source')}) ORDER BY line"
        good, bad = (con.con.execute(q).to_arrow_table().to_pylist() for q in (records, rejects))
        return good, bad

    return query


@pytest.fixture
def one(read: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The single record that a JSON record becomes."""

    def record(pii: str = "keep", **fields: Any) -> dict[str, Any]:
        raw.write_pages([[BASE | fields]], tmp_path / "raw")
        records, rejects = read(tmp_path / "raw", pii)
        assert (len(records), rejects) == (1, [])
        return records[0]  # type: ignore[no-any-return]

    return record


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., raw.RawSlice]:
    """The raw slice of an archive of some members."""

    def write(*members: bytes | str, name: str = "report_{}.csv") -> raw.RawSlice:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for number, member in enumerate(members):
                out.writestr(name.format(number), member)
        return raw.write_archive(path, tmp_path / "raw")

    return write


def sql(con: Any, expression: str, value: str | None) -> Any:
    """What an expression over the column `v` makes of a text; a time as text."""
    query = f"SELECT {expression} FROM (SELECT $v::VARCHAR AS v)"
    return con.con.execute(query, {"v": value}).to_arrow_table().column(0)[0].as_py()


def csv_of(*rows: dict[str, str]) -> str:
    names = list(rows[0])
    lines = [names, *([row[name] for name in names] for row in rows)]
    return "".join(",".join(f'"{v}"' for v in line) + "\n" for line in lines)


# Columns


def test_order_of_columns(archive: Any, read: Any) -> None:
    """Columns are read by their names, whatever their order."""
    slice_ = archive(csv_of(dict(reversed(BASE.items()))))
    records, _ = read(slice_.path)
    assert records[0]["message_id"] == "0E000000C889DF7B"
    assert records[0]["received_at"] == "2026-01-05 10:00:00+00"


def test_missing_optional_columns(archive: Any, read: Any) -> None:
    """What no column tells is null, or unknown where null is not allowed."""
    record = read(archive(csv_of(BASE)).path)[0][0]
    assert (record["country"], record["network_code"]) == ("unknown", "unknown")
    assert record["account_id"] == "5a4d0b0e"
    assert record["sender"] is record["price"] is record["finalized_at"] is None


def test_new_column(archive: Any) -> None:
    """A column that nobody knows is named; a documented one that is of no use is not."""
    assert archive(csv_of(BASE | {"mood": "x", "udh": ""})).new_columns == ["mood"]


def test_new_field(tmp_path: Path) -> None:
    """Likewise a field of a JSON record, be it in one record only."""
    pages = [[BASE], [BASE, BASE | {"mood": 1, "dcs": "0"}]]
    assert raw.write_pages(pages, tmp_path / "raw").new_columns == ["mood"]


@pytest.mark.parametrize("name", raw.REQUIRED)
def test_missing_required_column(archive: Any, name: str) -> None:
    """Without a column that the job needs the contract is broken, and the column is named."""
    with pytest.raises(ContractError, match=rf"report_0.csv: its header lacks {name};"):
        archive(csv_of({key: value for key, value in BASE.items() if key != name}))


def test_the_name_trap(one: Any) -> None:
    """A record's `to` is the handset, its `from` the sender."""
    record = one(**{"to": "447700900000", "from": "Acme", "changed_from": "", "forced_from": "123"})
    assert (record["recipient"], record["sender"]) == ("447700900000", "Acme")
    assert record["sender_used"] == "123"


# Texts


@pytest.mark.parametrize("nothing", ["", "  ", "\t", "REDACTED", " REDACTED\n", None])
def test_nothing_is_null(one: Any, nothing: str | None) -> None:
    """Blank and redacted are null."""
    record = one(**{"from": nothing, "to": nothing, "client_ref": nothing, "error_code": nothing})
    assert {record[n] for n in ("sender", "recipient", "client_ref", "error_code")} == {None}


def test_namibia(archive: Any, one: Any, read: Any) -> None:
    """`NA` is Namibia in JSON and in CSV, and not the want of a country."""
    assert one(country="NA")["country"] == "NA"
    assert read(archive(csv_of(BASE | {"country": "na"})).path)[0][0]["country"] == "NA"


@pytest.mark.parametrize(
    ("text", "wanted"), [("TRUE", True), ("false", False), ("", None), ("1", None), (True, True)]
)
def test_flags(one: Any, text: Any, wanted: bool | None) -> None:
    """TRUE and FALSE are flags in any case, and JSON's own too; all else is null."""
    assert one(concatenated=text)["concatenated"] is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0E000000C889DF7B", "0E000000C889DF7B"),
        (" 0e000000c889df7b\n", "0E000000C889DF7B"),
        ("00A0B0C0", "00A0B0C0"),
        ("0000000000000012", "0000000000000012"),
        ("0A0000000123ABCD1", "0A0000000123ABCD1"),
        ("AAAAAAAA-bbbb-4ccc-8ddd-EEEEEEEEEEEE", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"),
        ("Odd-One_7", "Odd-One_7"),
        ("REDACTED", None),
    ],
)
def test_message_ids(con: Any, text: str, wanted: str | None) -> None:
    """Ids stay text: hexadecimal ones in upper case, UUIDs in lower case, zeros in front kept."""
    assert sql(con, border.message_id(border.text("v")), text) == wanted


def test_an_id_that_looks_like_a_number(archive: Any, read: Any) -> None:
    """An id such as 0E000000C889 or 000012 comes out of a CSV as it went in."""
    rows = [BASE | {"message_id": i} for i in ("000012", "1E5", "0E000000C889DF7B")]
    records, _ = read(archive(csv_of(*rows)).path)
    assert {r["message_id"] for r in records} == {"000012", "1E5", "0E000000C889DF7B"}


# Money and times


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", "0"), ("0.0058", "0.0058"), ("0.21982", "0.21982"), ("1E-3", "0.001"), ("7.", "7"),
        ("0.000000005", "0"), ("0.000000015", "0.00000002"), ("0.000000025", "0.00000002"),
        ("-0.000000015", "-0.00000002"), ("0.0000000249999999999", "0.00000002"),
        ("1234567890.123456785", "1234567890.12345678"), ("12345678901", None),
        ("9999999999.999999995", None), ("99999999999999999999.999999995", None),
        ("0.00000000500000000000000000001", "0.00000001"), ("1e-9", "0"), ("15E-9", "0.00000002"),
        ("25e-09", "0.00000002"), ("+3.25e-5", "0.0000325"), ("1234567890e-8", "12.3456789"),
        ("99999999999e-3", "99999999.999"), ("0.0000050e+3", "0.005"), ("1e10", None),
        ("NaN", None), ("inf", None), ("1,5", None), ("x", None), ("1e", None), ("1.5e-", None),
    ],
)  # fmt: skip
def test_money(con: Any, text: str, wanted: str | None) -> None:
    """A price of any scale becomes decimal(18,8), a tie goes to the even digit."""
    assert sql(con, border.money("v"), text) == (wanted and Decimal(wanted))


@settings(max_examples=80, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.decimals(min_value=-(10**9), max_value=10**9, places=9))
def test_money_is_pythons(con: Any, value: Decimal) -> None:
    """Rounding is that of Python's decimal."""
    wanted = value.quantize(Decimal("1e-8"), ROUND_HALF_EVEN)
    assert sql(con, border.money("v"), format(value, "f")) == wanted


def test_money_in_columns(con: Any) -> None:
    """Also of texts with as many digits and such exponents as nobody writes."""
    random, texts = Random(5), list[str]()
    for _ in range(20_000):
        whole = random.choice(["0", "7", str(random.randrange(10 ** random.randrange(1, 12)))])
        ends = ["", "5", "50", "500", "51", "4999", "5000000001", "6"]
        digits = "".join(random.choices("0459", k=random.randrange(8))) + random.choice(ends)
        power = random.choice(["", "", "", f"e-{random.randrange(10)}", f"E+{random.randrange(4)}"])
        texts.append(f"{random.choice(['', '-', '+'])}{whole}.{digits}{power}")
    con.con.register("texts", pa.table({"v": texts}))
    found = con.con.execute(f"SELECT {border.money('v')} AS v FROM texts").to_arrow_table()["v"]
    for text, told in zip(texts, found.to_pylist(), strict=True):
        wanted = Decimal(text).quantize(Decimal("1e-8"), ROUND_HALF_EVEN)
        assert told == (wanted if abs(wanted) < 10**10 else None), text


def test_json_price(one: Any) -> None:
    """A JSON number of a price is the decimal that was written."""
    price = json.loads("0.00000003", parse_float=Decimal)
    assert one(total_price=price)["price"] == Decimal("0.00000003")
    assert one(price="0.5")["price"] == Decimal("0.5")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-01-05T10:00:00+0000", "2026-01-05 10:00:00+00"),
        ("2026-01-05T10:00:00+00:00", "2026-01-05 10:00:00+00"),
        ("2026-01-05T10:00:00-0000", "2026-01-05 10:00:00+00"),
        ("2026-01-05T10:00:00Z", "2026-01-05 10:00:00+00"),
        ("2026-01-05T12:30:00+02:30", "2026-01-05 10:00:00+00"),
        ("2026-01-05 10:00:00", "2026-01-05 10:00:00+00"),
        ("2026-01-05 10:00:00 +0000", "2026-01-05 10:00:00+00"),
        ("2026-01-05 05:00:00 -0500", "2026-01-05 10:00:00+00"),
        ("2026-01-05 10:00:00 UTC", "2026-01-05 10:00:00+00"),
        ("2026-01-05T10:00:00.123999Z", "2026-01-05 10:00:00.123+00"),
        ("2026-01-05T10:00:0 +00:00", "2026-01-05 10:00:00+00"),
        *((text, None) for text in ("2026-02-31T00:00:00Z", "2026-01-05", "epoch", "infinity",
                                    "0000-01-01 00:00:00", "yesterday", "1767225600", "",
                                    "2026-01-05 10:00:00 PST", "2026-01-05  1:00:00",
                                    "2026-01-05\t10:00:00", "2026-01-5T001:00:00")),
    ],
)  # fmt: skip
def test_times(con: Any, text: str, wanted: str | None) -> None:
    """Every form of a time is an instant in milliseconds; what is no time is null."""
    assert sql(con, f"({border.instant('v')})::VARCHAR", text) == wanted


def test_forms_of_a_second(con: Any) -> None:
    """However a second is written, it is the instant that Python makes of it, or none."""
    random = Random(7)
    limits = ((1899, 3001), (0, 13), (0, 32), (0, 24), (0, 61), (0, 61))
    texts = ["{:04}-{:02}-{:02} {:02}:{:02}:{:02}".format(*(random.randint(*b) for b in limits))
             for _ in range(3000)]  # fmt: skip
    con.con.register("seconds", pa.table({"v": texts}))
    ways = ("v", "replace(v, ' ', 'T')", *(f"v || '{z}'" for z in (
        "+00:00", ".000Z", "Z", " UTC", " +0000", "+0000", "-00:00", ".0")))  # fmt: skip
    each = ", ".join(f"epoch_ms({border.instant(f'({way})')})" for way in ways)
    found = con.con.execute(f"SELECT v, {each} FROM seconds").fetchall()
    wanted = [(text, *[_milliseconds(text)] * len(ways)) for text in texts]
    assert [row for row in found if row not in wanted] == []
    assert 300 < sum(ms is not None for _, ms, *_ in wanted) < 2700


def test_what_is_nearly_a_second(con: Any) -> None:
    """A time with signs changed is read as a time of its shape, or by nobody."""
    random, texts = Random(11), set[str]()
    seconds = ("2026-01-05 10:00:00", "2026-01-05T10:00:00.123Z", "2026-01-05T10:00:00+00:00")
    while len(texts) < 50_000:
        letters = list(random.choice(seconds))
        for _ in range(random.randint(1, 2)):
            letters[random.randrange(len(letters))] = random.choice("0129-+:.TZ \te")
        texts.add("".join(letters).strip())
    con.con.register("nearly", pa.table({"v": sorted(texts)}))
    query = f"SELECT v, {border.instant('v')} IS NOT NULL FROM nearly"
    read = {text for text, is_read in con.con.execute(query).fetchall() if is_read}
    shape = r"(19|2\d)\d\d-\d\d-\d\d[T ]\d\d:\d\d[0-9:.]*( ?Z| ?[+-]\d\d(:?\d\d)?)?"
    assert {text for text in read if not re.fullmatch(shape, text)} == set()
    assert 100 < len(read) < 10_000


def _milliseconds(text: str) -> int | None:
    try:
        moment = datetime.strptime(f"{text} +0000", "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None
    return int(moment.timestamp()) * 1000 if 1900 <= moment.year < 3000 else None


@pytest.mark.parametrize("read", [border.instant, border.instant_or_epoch, border.captured])
def test_no_zone_reaches_another_row(con: Any, read: Any) -> None:
    """A time without a zone is UTC, whatever the rows before it say."""
    plain, zoned = "2026-01-05 10:00:00", "2026-01-05 10:00:00 America/New_York"
    texts = (plain, zoned, plain, f"{plain} UTC", plain, f"{plain} +0200", plain)
    rows = ", ".join(f"({n}, '{text}')" for n, text in enumerate(texts))
    query = f"SELECT epoch_ms({read('v')}) FROM (VALUES {rows}) AS t(n, v) ORDER BY n"
    found = [ms for (ms,) in con.con.execute(query).fetchall()]
    ten, eight = 1767607200000, 1767600000000
    assert found == [ten, None, ten, ten, ten, eight, ten]


@pytest.mark.parametrize("latency", ["6357", 6357])
def test_latency(one: Any, latency: Any) -> None:
    """A latency is milliseconds, as text or as number."""
    assert one(latency=latency, validity_period="0") | {} == one(latency="6357") | {}
    assert one(latency=latency)["latency_ms"] == 6357


# Privacy


def test_ids_and_numbers_in_columns(con: Any) -> None:
    """They are what a plain reading of their description makes of them, letter by letter."""
    random = Random(3)
    signs = "0123456789" * 3 + "abcdefABCDEF" * 2 + "-+ ()._xg"
    texts = ["".join(random.choices(signs, k=random.randrange(1, 12))) for _ in range(20_000)]
    texts += [str(random.randrange(10**size)) for size in range(1, 25) for _ in range(50)]
    uuids = [str(UUID(int=random.getrandbits(128))) for _ in range(1000)]
    texts += [random.choice([str.upper, str.lower, str.title])(each) for each in uuids]
    con.con.register("texts", pa.table({"v": texts}))
    con.con.execute("SET VARIABLE pii_key = 'of the test'")
    query = ", ".join((border.message_id("v"), border.recipient("v", "keep"),
                       border.recipient("v", "hash")))  # fmt: skip
    for text, *found in con.con.execute(f"SELECT v, {query} FROM texts").fetchall():
        digits = re.sub("[^0-9]", "", text) or None
        hidden = digits and sha256(f"of the test{digits}".encode()).hexdigest()[:16]
        assert found == [_normal_id(text), digits, hidden], text


def _normal_id(text: str) -> str:
    if re.fullmatch("[0-9A-Fa-f]+", text):
        return text.upper()
    is_uuid = re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text, re.IGNORECASE)
    return text.lower() if is_uuid else text


def test_recipient(one: Any) -> None:
    """A number is hidden as 16 digits of a hash with the key, whatever its punctuation."""
    wanted = sha256(b"a key for tests only, 32 letters" + b"447700900000").hexdigest()[:16]
    for text in ("447700900000", "+44 7700 900000", "44-7700-900000"):
        assert one("hash", to=text)["recipient"] == wanted
        assert one("keep", to=text)["recipient"] == "447700900000"
        assert one("drop", to=text)["recipient"] is None


# Files


def test_newlines_and_quotes(archive: Any, read: Any) -> None:
    """Fields may hold newlines, quotes and commas."""
    odd = 'a ""b"", é\nc\r\nd'
    records, _ = read(archive(csv_of(BASE | {"client_ref": odd, "to": "1"})).path)
    assert records[0]["client_ref"] == 'a "b", é\nc\r\nd'
    assert records[0]["recipient"] == "1"


def test_several_members(archive: Any, read: Any) -> None:
    """All CSV members are read, each by its own header; rows are numbered on."""
    other = BASE | {"message_id": "0B", "date_received": "no"}
    slice_ = archive(csv_of(BASE), csv_of(dict(reversed(other.items()))), csv_of(BASE))
    records, rejects = read(slice_.path)
    assert (slice_.rows, len(records)) == (3, 2)
    assert [(r["line"], r["reason"]) for r in rejects] == [(2, "its date_received is no time")]


@pytest.mark.parametrize("end", ["", "\n"])
def test_header_alone(archive: Any, end: str) -> None:
    """A report of nothing is a header, with a line end or without."""
    slice_ = archive(",".join([*BASE, "mood"]) + end)
    assert (slice_.rows, slice_.new_columns) == (0, ["mood"])


def test_no_bytes(archive: Any) -> None:
    """A member of no bytes holds nothing, and the next is read."""
    assert archive("", csv_of(BASE)).rows == 1


def test_byte_order_mark(archive: Any, read: Any) -> None:
    """A byte order mark before the header is no part of a name."""
    slice_ = archive(b"\xef\xbb\xbf" + csv_of(BASE).encode())
    assert (len(read(slice_.path)[0]), slice_.new_columns) == (1, [])


def test_rows_of_wrong_width(archive: Any, read: Any) -> None:
    """A row that has too few or too many fields is a reject with its number, the others stay."""
    lines = csv_of(*(BASE | {"message_id": f"0{n}"} for n in range(1, 6))).splitlines()
    lines[2], lines[4] = '"02"', lines[4] + ',"more"'
    slice_ = archive("\n".join(lines))
    records, rejects = read(slice_.path)
    assert [r["message_id"] for r in records] == ["01", "03", "05"]
    assert [(r["line"], r["reason"]) for r in rejects] == [
        (2, raw.WRONG_WIDTH),
        (4, raw.WRONG_WIDTH),
    ]
    assert slice_.rows == 5


def test_latin_1(archive: Any, read: Any) -> None:
    """A byte that is no UTF-8 spoils its own field only."""
    text = csv_of(BASE | {"client_ref": "Caf\xe9"}).encode("latin-1")
    assert read(archive(text).path)[0][0]["client_ref"] == "Caf\ufffd"


def test_half_a_character(one: Any) -> None:
    """Half a character, which JSON can name, spoils its own field only."""
    assert one(client_ref=json.loads('"x\\ud800"'))["client_ref"] == "x?"


def test_rejects(read: Any, tmp_path: Path) -> None:
    """A record without id or time, or of another day, is a reject that says so."""
    pages = [[BASE, BASE | {"message_id": ""}, BASE | {"date_received": None}],
             [BASE | {"date_received": "2026-01-06T00:00:00Z"}]]  # fmt: skip
    slice_ = raw.write_pages(pages, tmp_path / "raw")
    records, rejects = read(slice_.path)
    assert (slice_.rows, len(records)) == (4, 1)
    assert [(r["line"], r["reason"]) for r in rejects] == [
        (2, "it has no message_id"),
        (3, "its date_received is no time"),
        (4, "its date_received lies outside of the days asked for"),
    ]
    assert {(r["source"], r["kind"]) for r in rejects} == {("a source", "malformed_record")}


def test_an_empty_page(tmp_path: Path) -> None:
    """A page without records is a slice without rows."""
    assert raw.write_pages([[]], tmp_path / "raw").rows == 0


WHOLE = csv_of(BASE)


@pytest.mark.parametrize("pack", [str.encode, lambda t: gzip.compress(t.encode())])
@pytest.mark.parametrize("text", [WHOLE, "\ufeff" + WHOLE.replace("\n", "\r\n"),
                                  WHOLE.replace('"', ""), "\n\n" + WHOLE])  # fmt: skip
def test_bare_csv(read: Any, tmp_path: Path, text: str, pack: Callable[[str], bytes]) -> None:
    """A CSV that is not zipped, or gzipped, is read too, whatever its name."""
    path = tmp_path / "report.zip"
    path.write_bytes(pack(text))
    slice_ = raw.write_archive(path, tmp_path / "raw")
    assert (slice_.rows, slice_.new_columns) == (1, [])
    assert read(slice_.path)[0][0]["message_id"] == "0E000000C889DF7B"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html>\n<html>", "it is an HTML page"),
        (b'  {"title": "Forbidden"}', "it is JSON"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (WHOLE.encode("utf-16"), "it is no text in UTF-8"),
        (b"message_id,status\n", "its header lacks date_received"),
        (b"message_id;date_received;status\n1;2;3\n",
         "its header lacks message_id, date_received, status: ';' splits it, where a comma should"),
        (gzip.compress(b"<html>"), "it is an HTML page"),
    ],
)  # fmt: skip
def test_no_report(tmp_path: Path, content: bytes, found: str) -> None:
    """What is no report at all is a ReportError that says what it is."""
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    wanted = f"a.zip is no ZIP archive, and no CSV of a report: {found}"
    with pytest.raises(ReportError, match=f"^{re.escape(wanted)}$"):
        raw.write_archive(path, tmp_path / "raw")


def test_blank_lines(archive: Any, read: Any) -> None:
    """Blank lines are no rows: before the header, between rows and behind them."""
    lines = csv_of(BASE, BASE | {"date_received": "no"}).splitlines()
    slice_ = archive("\n\n" + "\n\n".join(lines) + "\n\n")
    assert slice_.rows == 2
    assert [r["line"] for r in read(slice_.path)[1]] == [2]


def test_column_twice(archive: Any) -> None:
    """Two columns of one name contradict each other: the contract is broken."""
    with pytest.raises(ContractError, match=r"report_0\.csv: its header has status twice"):
        archive(csv_of(BASE).replace('"status"', '"status","status"'))


@pytest.mark.parametrize("name", ["../../evil{}.csv", "/etc/evil{}.csv", "a/../../b.txt", "a\\b",
                                  "a\nb", "C:\\evil.csv"])  # fmt: skip
def test_strange_names(archive: Any, name: str) -> None:
    """A member's name that leads elsewhere is no report's: nothing of the archive is read."""
    with pytest.raises(ReportError, match="it is no report of Vonage"):
        archive(csv_of(BASE), name=name)


def test_other_members(tmp_path: Path) -> None:
    """What is no CSV is ignored, and so is what a Mac adds."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.mkdir("old.csv")
        out.writestr("readme.txt", "x")
        out.writestr("reports/a.CSV", csv_of(BASE))
        out.writestr("__MACOSX/reports/._a.CSV", "\0")
    assert raw.write_archive(tmp_path / "a.zip", tmp_path / "raw").rows == 1


def test_empty_zip(tmp_path: Path) -> None:
    """An archive of nothing is a ReportError."""
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    with pytest.raises(ReportError, match=r"a\.zip holds no CSV: ask"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")


@pytest.mark.parametrize("inner", [b"PK\x03\x04\x14\0", gzip.compress(b"x" * 99)])
def test_nested(archive: Any, inner: bytes) -> None:
    """An archive in an archive is a ReportError, whatever its name."""
    with pytest.raises(ReportError, match=r"report_0\.csv holds another archive"):
        archive(inner)
    with pytest.raises(ReportError, match=r"holds no CSV \(its first member is 'report_0.zip'\)"):
        archive(inner, name="report_{}.zip")


def test_encrypted(archive: Any, tmp_path: Path) -> None:
    """An encrypted archive is a ReportError that says so."""
    archive(csv_of(BASE))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 0x1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ReportError, match=r"a\.zip is encrypted"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path: Path, method: int) -> None:
    """A compression that Vonage does not use is a ReportError."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as out:
        out.writestr("a.csv", csv_of(BASE))
    with pytest.raises(ReportError, match="compressed in a way that no report is"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")


@pytest.mark.parametrize("pack", ["zip", "gzip"])
@pytest.mark.parametrize("rows", [True, False])
def test_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str, rows: bool) -> None:
    """What inflates beyond all measure is refused while it is inflated, whatever it says."""
    monkeypatch.setattr(unpack, "INFLATED_BYTES", 1 << 20)
    bomb = (csv_of(BASE) + ("x,y,z\n" if rows else " ") * (6 << 20)).encode()
    path = tmp_path / "a.zip"
    if pack == "gzip":
        path.write_bytes(gzip.compress(bomb))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("a.csv", bomb)
    with pytest.raises(ReportError, match=r"a\.zip is damaged"):
        raw.write_archive(path, tmp_path / "raw")


def test_many_small_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members together have one measure."""
    monkeypatch.setattr(unpack, "INFLATED_BYTES", 1 << 20)
    monkeypatch.setattr(unpack, "INFLATED_RATIO", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(20):
            out.writestr(f"{number}.csv", csv_of(*[BASE] * 2000))
    with pytest.raises(ReportError, match="inflates beyond all measure"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")


def test_many_members(archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No report has members without number, nor a directory to match."""
    monkeypatch.setattr(unpack, "MEMBERS", 3)
    assert archive(*[csv_of(BASE)] * 3).rows == 3
    with pytest.raises(ReportError, match="has 4 members: no report has so many"):
        archive(*[csv_of(BASE)] * 4)
    monkeypatch.setattr(unpack, "DIRECTORY_BYTES", 100)
    with pytest.raises(ReportError, match="its directory is as large as no report's"):
        archive(*[csv_of(BASE)] * 3)


@pytest.mark.parametrize("text", ["x" * (3 << 20), '"' + "x\n" * (3 << 20), '"x\n",' * (1 << 20)])
def test_endless_row(archive: Any, text: str) -> None:
    """A row without end is not gathered, but refused."""
    with pytest.raises(ReportError, match="is damaged"):
        archive(csv_of(BASE) + text)


def test_shorter_than_announced(tmp_path: Path) -> None:
    """A member that is shorter than announced is a ReportError, even if its sum is right."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.csv", csv_of(*[BASE] * 3000))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = (1 << 24).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ReportError, match="not as long as it says"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")


@pytest.mark.parametrize("harm", ["short", "spoilt"])
def test_damaged_gzip(tmp_path: Path, harm: str) -> None:
    """A gzipped CSV that was cut short or spoilt is a ReportError."""
    content = bytearray(gzip.compress(csv_of(*[BASE] * 20_000).encode()))
    if harm == "short":
        content = content[: len(content) // 2]
    else:
        content[-6] ^= 0xFF
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(ReportError, match="is damaged"):
        raw.write_archive(tmp_path / "a.csv.gz", tmp_path / "raw")


@settings(max_examples=150, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans(),
       packed=st.booleans())  # fmt: skip
def test_any_damage(tmp_path: Path, place: int, byte: int, cut: bool, packed: bool) -> None:
    """A file that is damaged anywhere is read, or refused with one line: nothing else happens."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.csv", csv_of(BASE, BASE))
        out.writestr("b.csv", csv_of(BASE))
    content = bytearray(whole.getvalue() if packed else gzip.compress(csv_of(BASE).encode()))
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] = byte
    (tmp_path / "a.zip").write_bytes(content)
    told = ""
    try:
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")
    except (ReportError, ContractError) as error:
        told = str(error)
    assert "\n" not in told


def test_both_readers_agree(archive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader that is used where the fast one gives up reads the same."""
    rows = [BASE | {"message_id": f"{n}", "client_ref": t} for n, t in enumerate(
        ["", " ", "a,b", 'say ""so""', "two\nlines", "\r\n", "é", "NA", "null", "'"])]  # fmt: skip
    found = [archive(csv_of(*rows)).path.read_bytes()]
    monkeypatch.setattr(raw, "_read_fast", raw._read_slowly)
    found.append(archive(csv_of(*rows)).path.read_bytes())
    assert found[0] == found[1]


def test_no_csv(archive: Any) -> None:
    """An archive without a CSV is a ReportError."""
    with pytest.raises(ReportError, match="holds no CSV"):
        archive("x", name="readme.txt")


@pytest.mark.parametrize("harm", ["short", "spoilt", "checksum"])
def test_damaged_archive(tmp_path: Path, harm: str) -> None:
    """An archive that was cut short or spoilt is a ReportError."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.csv", csv_of(*(BASE | {"message_id": f"{n:x}"} for n in range(9000))))
    content = bytearray(whole.getvalue())
    half = len(content) // 2
    if harm == "short":
        content = content[:half]
    elif harm == "spoilt":
        content[half : half + 64] = b"\xff" * 64
    else:
        place = content.index(b"PK\x01\x02") + 16
        content[place : place + 4] = b"\0\0\0\0"
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ReportError, match="is damaged"):
        raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")
