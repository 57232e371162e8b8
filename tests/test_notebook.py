"""The notebook is executed for real, on the store that the demo leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from reconcile.tables import SUMMARY

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "receipts.ipynb"
QUESTIONS = 3

# Only Jupyter runs in this process: its deprecations are its own. The command line runs in a
# process of its own, and warnings of the notebook's cells are errors in the kernel (STRICT).
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
Run = Callable[..., list[nbformat.NotebookNode]]
STRICT = "import warnings; warnings.filterwarnings('error', module='__main__')"

SAME_AS_PUBLISHED = """
for verdict in VERDICTS:
    published = summary[[f"{verdict}_rate{end}" for end in ("", "_low", "_high")]]
    made = rates(summary, verdict)[["rate", "low", "high"]]
    np.testing.assert_allclose(made, published, atol=1e-6)
"""
EVERY_MISSING_HAS_A_REASON = "assert 0 < total.sum() == summary['missing'].sum()"
NAMIBIA = "assert label[('NA', '64901')] == 'NA 64901 Etosha Mobile'"
MONEY = """
from decimal import Decimal
assert {type(money) for money in summary["spend"]} == {Decimal}
assert sum(map(Decimal, cost["spend"])) == summary["spend"].sum()
"""


@pytest.fixture
def store(demo_store: Path) -> Path:
    return demo_store


@pytest.fixture(autouse=True)
def own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own kernels, settings or history take part."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Executes the notebook in its folder on a store, with further cells that check."""

    def execute(store: Path, *checks: str) -> list[nbformat.NotebookNode]:
        monkeypatch.setenv("RECONCILE_STORE", str(store))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        cells = notebook.cells
        cells.insert(0, nbformat.v4.new_code_cell(STRICT))
        cells.extend(nbformat.v4.new_code_cell(check) for check in checks)
        resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
        NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources).execute()
        return [output for cell in cells for output in cell.get("outputs", [])]

    return execute


def figures(outputs: list[nbformat.NotebookNode]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def warnings_in(outputs: list[nbformat.NotebookNode]) -> list[str]:
    """What a library warned of while drawing: a glyph that is missing, labels without room."""
    return [o.text for o in outputs if o.output_type == "stream" and "Warning:" in o.text]


def test_each_question_gets_its_plot(store: Path, run: Run) -> None:
    outputs = run(store, SAME_AS_PUBLISHED, EVERY_MISSING_HAS_A_REASON, NAMIBIA, MONEY)
    assert figures(outputs) == QUESTIONS
    assert warnings_in(outputs) == []


def test_one_day_without_missing_receipts_is_plotted_too(
    store: Path, run: Run, tmp_path: Path
) -> None:
    source = next(store.glob("summary/day=2026-10-12/*.parquet"))
    day = pq.read_table(source, partitioning=None)
    assert pc.sum(day["missing"]).as_py() > 0
    columns = {name: day[name] for name in SUMMARY.names}
    columns["confirmed"] = pc.add(day["confirmed"], day["missing"])
    counts = [n for n in SUMMARY.names if n.startswith("missing") and "_rate" not in n]
    columns |= dict.fromkeys(counts, pa.array([0] * len(day), pa.int64()))
    target = tmp_path / "summary" / source.parent.name / source.name
    target.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=day.schema), target)
    outputs = run(tmp_path, "assert len(days) == 1", "assert total.sum() == 0")
    assert figures(outputs) == QUESTIONS
    assert warnings_in(outputs) == []


def test_without_a_store_it_says_so_in_one_sentence(run: Run, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError) as failed:
        run(tmp_path / "nowhere")
    assert failed.value.ename == "FileNotFoundError"
    sentence = failed.value.evalue
    assert sentence.startswith(f"There is no store with published days in {tmp_path / 'nowhere'}: ")
    assert "RECONCILE_STORE" in sentence
    assert "\n" not in sentence


def test_it_is_stored_without_results() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", word) for word in ids)  # named, not random
