"""The notebooks are executed for real, on the store that the demo leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import nbformat
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import reconcile
from reconcile.tables import NETWORKS, SUMMARY

FOLDER = Path(__file__).parent.parent / "notebooks"
LOSSES, NETWORKS_ODD, TICKET = NOTEBOOKS = (
    "who_loses_receipts.ipynb", "networks_not_believed.ipynb", "carrier_ticket.ipynb"
)  # fmt: skip
DAY = "2026-10-12"

# Only Jupyter runs in this process: its deprecations are its own. The command line runs in a
# process of its own, and warnings of the notebook's cells are errors in the kernel (STRICT).
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
Run = Callable[..., list[nbformat.NotebookNode]]
STRICT = "import warnings; warnings.filterwarnings('error', module='__main__')"


@pytest.fixture(autouse=True)
def own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    """Nobody's own kernels, settings or history take part."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Executes a notebook in a folder of its own on a store, with further cells that check."""

    def execute(name: str, store: Path, *checks: str) -> list[nbformat.NotebookNode]:
        monkeypatch.setenv("RECONCILE_STORE", str(store))
        notebook = nbformat.read(FOLDER / name, as_version=4)
        cells = notebook.cells
        cells.insert(0, nbformat.v4.new_code_cell(STRICT))
        cells.extend(nbformat.v4.new_code_cell(check) for check in checks)
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
        return [output for cell in cells for output in cell.get("outputs", [])]

    return execute


def figures(outputs: list[nbformat.NotebookNode]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def printed(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


def warned(outputs: list[nbformat.NotebookNode]) -> list[str]:
    """What a library warned of while drawing: a glyph that is missing, labels without room."""
    return [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]


def store_of(folder: Path, demo: Path, table: str, rows: pa.Table) -> Path:
    """A store with one partition of our own making."""
    target = folder / "made" / table / f"day={DAY}" / f"{table}.parquet"
    target.parent.mkdir(parents=True)
    pq.write_table(rows, target)
    (folder / "made" / "store.json").write_bytes((demo / "store.json").read_bytes())
    return folder / "made"


def day_of(demo: Path, table: str) -> pa.Table:
    return pq.ParquetFile(demo / table / f"day={DAY}" / f"{table}.parquet").read()


def replaced(rows: pa.Table, name: str, values: list[object]) -> pa.Table:
    at = rows.column_names.index(name)
    return rows.set_column(at, name, pa.array(values, rows.schema.field(name).type))


@pytest.mark.slow
def test_losses_add_up(demo_store: Path, run: Run) -> None:
    """Every missing receipt of the summary is in the answer and in the plot."""
    missing = reconcile.open(demo_store).summary()["missing"].sum()
    outputs = run(
        LOSSES, demo_store, f"assert answer['receipts'].sum() == {missing}",
        "assert any(label.startswith('NA 64901 Etosha') for label in lost.index)",
    )  # fmt: skip
    assert missing > 0
    assert f"{missing:,} receipts missing" in printed(outputs)
    assert (figures(outputs), warned(outputs)) == (1, [])


@pytest.mark.slow
def test_nothing_lost_is_drawn_too(demo_store: Path, run: Run, tmp_path: Path) -> None:
    """A day without a missing receipt is an honest picture, and no error."""
    rows = day_of(demo_store, "summary")
    for name in SUMMARY.names:
        if name.startswith("missing") and "_rate" not in name:
            rows = replaced(rows, name, [0] * len(rows))
    outputs = run(LOSSES, store_of(tmp_path, demo_store, "summary", rows))
    assert "0 receipts missing" in printed(outputs)
    assert (figures(outputs), warned(outputs)) == (1, [])


@pytest.mark.slow
def test_no_odd_network_is_said_to_be_none(demo_store: Path, run: Run) -> None:
    """The demo's networks are too small to tell anything of, and the notebook says so."""
    outputs = run(NETWORKS_ODD, demo_store)
    assert "and 0 are odd" in printed(outputs)
    assert (figures(outputs), warned(outputs)) == (1, [])


@pytest.mark.slow
def test_an_odd_network_is_named_with_its_evidence(
    demo_store: Path, run: Run, tmp_path: Path
) -> None:
    """A suspect network is told with its sentence, its numbers, and since when."""
    rows = day_of(demo_store, "networks").select(NETWORKS.names)
    told = {"network_verdict": "suspect", "is_alert": True, "reasons": ["no_tail"],
            "evidence": "0 of 900 took more than 60 s, where 3 % did", "rate": 0.0, "rate_low": 0.0,
            "rate_high": 0.004, "baseline": 0.03, "spend_at_stake": Decimal("45")}  # fmt: skip
    for name, value in told.items():
        rows = replaced(rows, name, [value, *rows[name].to_pylist()[1:]])
    outputs = run(NETWORKS_ODD, store_of(tmp_path, demo_store, "networks", rows))
    assert "and 1 are odd" in printed(outputs)
    shown = " ".join(str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "0 of 900 took more than 60 s" in shown
    assert (figures(outputs), warned(outputs)) == (1, [])


@pytest.mark.slow
def test_a_ticket_has_what_a_carrier_needs(demo_store: Path, run: Run, tmp_path: Path) -> None:
    """The file holds the messages that carriers lost, without numbers and references of ours."""
    outputs = run(TICKET, demo_store)
    rows = list(
        openpyxl.load_workbook(tmp_path / "ticket.xlsx")["verdicts"].iter_rows(values_only=True)
    )
    assert {"recipient", "client_ref", "account_id"}.isdisjoint(rows[0])
    made = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    [code] = {row["network_code"] for row in made}
    lost = reconcile.open(demo_store).verdicts(
        where="list_has_any(reasons, ['carrier_silent', 'platform_expired'])"
    )
    meant = lost[lost["network_code"] == code]
    assert {row["message_id"] for row in made} == set(meant["message_id"])
    assert len(made) == lost.groupby("network_code").size().max() > 0
    for message_id in meant["message_id"]:
        assert f"{message_id}: missing, " in printed(outputs)
    assert warned(outputs) == []


@pytest.mark.slow
def test_no_ticket_without_a_loss(demo_store: Path, run: Run, tmp_path: Path) -> None:
    """Where carriers lost nothing, one sentence says so, and no file is written."""
    rows = day_of(demo_store, "summary")
    for name in ("missing_carrier_silent", "missing_platform_expired"):
        rows = replaced(rows, name, [0] * len(rows))
    with pytest.raises(CellExecutionError) as failed:
        run(TICKET, store_of(tmp_path, demo_store, "summary", rows))
    assert failed.value.evalue.startswith("No receipt was lost by a carrier")
    assert not (tmp_path / "ticket.xlsx").exists()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_without_a_store_it_says_so_in_one_sentence(run: Run, tmp_path: Path, name: str) -> None:
    """A folder that is no store is named, with what makes one."""
    with pytest.raises(CellExecutionError) as failed:
        run(name, tmp_path / "nowhere")
    assert failed.value.ename == "UsageError"
    assert failed.value.evalue.startswith(f"no store at {tmp_path / 'nowhere'}: ")
    assert "\n" not in failed.value.evalue


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_stored_without_results(name: str) -> None:
    """No output, no execution count, and cells by name."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", word) for word in ids)  # named, not random


def test_each_notebook_is_in_the_readme() -> None:
    """All notebooks are tested here, and named in their README."""
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)
    told = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in told for name in NOTEBOOKS)
