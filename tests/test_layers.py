"""Imports point up: a room knows only the rooms above it. The table is that of ARCHITECTURE.md."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import reconcile

PACKAGE = Path(reconcile.__file__).parent
# A room → the rooms that it may know; its own files it always may.
FACTS = {"errors", "vocabulary", "days"}
CORE = FACTS | {"bucket", "engine", "settings", "tables", "store"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "vocabulary": set(),
    "days": {"errors"},
    "bucket": {"errors"},
    "lease": {"errors", "bucket"},
    "handing_on": {"bucket"},
    "mirror": {"errors", "bucket", "lease", "handing_on"},
    "moments": set(),
    "wilson": set(),
    "engine": FACTS | {"moments"},
    "capabilities": {"errors", "vocabulary"},
    "fail_on": {"errors", "vocabulary"},
    "settings": FACTS | {"bucket", "engine", "capabilities", "fail_on"},
    "tables": FACTS | {"engine", "settings"},
    "store": CORE - {"store", "settings"} | {"mirror"},
    "border": CORE,
    "judge": {"errors", "vocabulary", "days", "moments", "wilson", "tables", "capabilities"},
    "summarise": {"errors", "vocabulary", "days", "moments", "wilson", "tables"},
    "reports": CORE | {"border"},
    "receipts": CORE | {"border"},
    "sendlog": CORE | {"border", "judge", "receipts"},
    "conversions": CORE | {"border"},
    "networking": CORE | {"judge", "capabilities"},
    "calibrating": CORE | {"judge", "networking"},
    "cutting": {"errors", "engine", "tables", "store"},
    "aside": {"errors", "engine", "tables", "store", "cutting"},
    "enumerating": {"engine"},
    "judging": CORE
    | {"judge", "summarise", "sendlog", "networking", "conversions", "cutting", "aside"}
    | {"enumerating"},
    "cluster": CORE | {"moments", "judging", "cutting"},
    "healing": CORE | {"judging", "sendlog"},
    "damage": {"errors", "engine", "tables", "store"},
    "run": CORE | {"border", "aside", "damage"},
    "outcome": CORE | {"fail_on", "run"},
    "metrics": CORE | {"fail_on"},
    "notify": CORE | {"reports"},
    "watching": CORE | {"run", "metrics", "notify"},
    "refreshing": CORE | {"reports", "run"},
    "importing": CORE | {"reports", "run"},
    "fetching": CORE | {"reports", "run", "refreshing"},
    "meanwhile": CORE | {"border", "run"},
    "job": CORE
    | {"judge", "reports", "receipts", "sendlog", "judging", "healing", "run", "refreshing"}
    | {"cluster"}
    | {"fetching", "meanwhile", "outcome"},
    "checking": CORE | {"border", "receipts", "reports"},
    "pruning": CORE | {"job", "networking", "reports"},
    "explaining": CORE
    | {"border", "judge", "sendlog", "judging", "reports", "run", "refreshing", "fetching"},
    "where": {"errors", "tables", "store"},
    "selection": {"errors", "engine", "tables", "store", "where"},
    "present": CORE
    | {"judge", "summarise", "reports", "receipts", "explaining", "calibrating"}
    | {"wilson", "where", "selection"},
    "frames": CORE | {"where", "selection", "run", "explaining", "present"},
    "exporting": {"errors", "tables", "where", "selection", "frames"},
    "sandbox": FACTS,
}
# The demo plays a whole job against the sandbox: the one file of its room that knows it.
DEMO = FACTS | {"job", "settings", "present"}
COMMAND_LINE = set(ROOMS)
# The parts that touch neither disk, network nor clock.
PURE = ("judge", "summarise", "fail_on")

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def known_to(path: Path) -> set[str]:
    """The rooms that a file may import from."""
    room = room_of(path)
    if room in {"cli", "__init__", "__main__"}:
        return COMMAND_LINE if room != "__init__" else {"bucket", "frames"}
    if path.relative_to(PACKAGE) == Path("sandbox", "demo.py"):
        return DEMO | {"sandbox"}
    return ROOMS[room] | {room}


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """Every module that a file imports, in functions too, but not for the type checker alone."""
    found: set[tuple[str, ...]] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides where it points"
            origin = tuple((node.module or "").split("."))
            found.update((*origin, alias.name) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text("utf-8")))
    return found


def rooms_in(path: Path) -> set[str]:
    """The rooms that a file imports from; names of the package itself (its version) are none."""
    ours = {name[1] for name in imports_of(path) if name[0] == "reconcile" and len(name) > 1}
    return {room for room in ours if not room.startswith("__")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_knows_only_rooms_above(path: Path) -> None:
    """A file imports from no room that is not above its own."""
    assert rooms_in(path) <= known_to(path)


def test_every_room_is_named() -> None:
    """A new file or folder of the package has its place in the table."""
    assert {room_of(path) for path in FILES} - {"cli", "__init__", "__main__"} == set(ROOMS)


def test_rooms_make_no_circle() -> None:
    """The table itself has no circle."""
    order = list(TopologicalSorter(ROOMS).static_order())
    assert set(order) == set(ROOMS)


@pytest.mark.slow
def test_files_make_no_circle() -> None:
    """Nor do the files of a room among themselves."""
    modules = {
        ".".join(("reconcile", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in FILES
        if path.name != "__init__.py"
    }
    graph = {}
    for name, path in modules.items():
        told = {".".join(parts) for parts in imports_of(path)}
        above = {".".join(parts[:-1]) for parts in imports_of(path)}
        graph[name] = (told | above) & set(modules)
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)


@pytest.mark.parametrize("room", PURE)
def test_core_is_pure(room: str) -> None:
    """The core imports nothing that reaches disk, network or engine; arithmetic it may."""
    allowed = {"__future__", "collections", "dataclasses", "datetime", "decimal", "functools",
               "ibis", "numpy", "operator", "pyarrow", "re", "reconcile", "scipy",
               "typing"}  # fmt: skip
    for path in FILES:
        if room_of(path) == room:
            assert {name[0] for name in imports_of(path)} <= allowed, path


CLOCKS = {"now", "today", "utcnow", "time"}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(path) in {*PURE, "tables", "days", "judging", "store"}],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_clock_is_never_read(path: Path) -> None:
    """What judges and publishes is told the time: as_of is the only clock."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8")))
             if isinstance(node, ast.Call)]  # fmt: skip
    read = {call.attr for call in calls if isinstance(call, ast.Attribute)} & CLOCKS
    assert not read
