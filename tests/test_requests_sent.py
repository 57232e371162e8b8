"""Every request that the client sends is one that Vonage's own OpenAPI definition allows.

The definition (Reports API 2.2.2) is old: newer documented parameters are allowed besides. It is
not part of this project; where it does not lie beside the checkout the tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reconcile import job
from reconcile.fetching import connected
from reconcile.run import opened
from reconcile.sandbox.generate import generate
from reconcile.sandbox.protocol import Request
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Owner

HERE = Path(__file__).resolve().parents[1]
SPEC = Path(os.environ.get("REPORTS_SPEC", HERE.parent / "shared/spec/reports-2.2.2.json"))
# Documented since: SDKs of 2026, and the guide to pagination.
NEWER = {
    "from",
    "to",
    "country",
    "network",
    "client_ref",
    "account_ref",
    "provider",
    "cursor",
    "iv",
}
DAY = date(2026, 1, 5)
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)"

pytestmark = pytest.mark.skipif(not SPEC.exists(), reason=f"no OpenAPI definition at {SPEC}")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """The definition, with its references resolved."""
    whole = json.loads(SPEC.read_text())

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            found: Any = whole
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            return resolved(found)
        return {name: resolved(each) for name, each in part.items()}

    found: dict[str, Any] = resolved(whole["paths"])
    return found


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Request]]:
    """What is sent in nights of every kind: pages, reports, ids, both products, lost answers."""
    folder = tmp_path_factory.mktemp("sent")
    world = generate(folder / "world", messages=2500, days=1, seed=9)
    early = datetime(2026, 1, 6, 2, tzinfo=UTC)
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"via": "sync"}, {}),
        ({"via": "async"}, {"cut_before_answer": 1}),
        ({"via": "async", "products": ["SMS", "MESSAGES"]}, {"report_truncated": 1}),
        ({"via": "sync", "products": ["SMS", "MESSAGES"]}, {"cursor_only": 2}),
    ]
    from reconcile.settings import Settings

    key = folder / "pii.key"
    key.write_text("a key for tests only, 32 letters")
    with Sandbox(world.folder, pending_seconds=0, seconds_per_million=0) as sandbox:
        account = Account(sandbox.api_key, sandbox.api_key, sandbox.api_secret)
        together = Account(sandbox.api_key, sandbox.api_key, sandbox.api_secret,
                           (Owner(sandbox.api_key, with_subaccounts=True),))  # fmt: skip
        for number, (flags, faults) in enumerate(kinds):
            settings = Settings(
                store=folder / f"store{number}", base_url=sandbox.base_url, pii_key_file=key,
                poll_first="20ms", poll_max="20ms", **flags,
            )  # fmt: skip
            sandbox.faults = faults
            for as_of in (early, world.mature_at):
                sandbox.now = as_of
                with opened(settings, as_of, lambda *_: None) as this:
                    days = job.plan(this, job.Asked(DAY, DAY + timedelta(days=1)))
                    with connected(this, [together if number == 2 else account]) as vonage:
                        job.fetch(this, vonage, days)
        yield list(sandbox.requests)


def schema_of(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """A JSON schema of query parameters: names, required ones, values as they stand in a URL."""
    known = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
    return {
        "type": "object",
        "required": [each["name"] for each in parameters if each.get("required")],
        "properties": {name: as_text(kind) for name, kind in known.items()}
        | {name: {"type": "string"} for name in NEWER},
        "additionalProperties": False,
    }


def as_text(kind: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that is written as text."""
    if kind["type"] == "boolean":
        return {"enum": ["true", "false"]}
    if kind.get("format") == "date":
        return {"type": "string", "pattern": f"^{MOMENT}$"}
    return kind


def test_queries(spec: dict[str, Any], sent: list[Request]) -> None:
    """Each GET is of a documented path, with its parameters, in their forms."""
    records = Draft202012Validator(schema_of(spec["/v2/reports/records"]["get"]["parameters"]))
    listing = Draft202012Validator(schema_of(spec["/v2/reports"]["get"]["parameters"]))
    gets = [request for request in sent if request.method == "GET"]
    assert {request.endpoint for request in gets} == {
        "/v2/reports/records", "/v2/reports", "/v2/reports/{id}", "/v3/media/{id}",
    }  # fmt: skip
    for request in gets:
        if request.endpoint == "/v2/reports/records":
            records.validate(request.query)
            check_together(request.query)
        elif request.endpoint == "/v2/reports":
            listing.validate(request.query)
        else:
            assert request.query == {}


def check_together(query: dict[str, str]) -> None:
    """What the definition says in words: a window of at most 24 h, or up to 20 ids alone."""
    assert query["direction"] == "outbound"
    if "id" in query:
        assert len(query["id"].split(",")) <= 20
        allowed = {"account_id", "product", "direction", "id", "include_message"}
        assert set(query) <= allowed | {"show_concatenated"}
    else:
        start, end = (datetime.fromisoformat(query[name]) for name in ("date_start", "date_end"))
        assert timedelta(0) < end - start <= timedelta(hours=24)


def test_bodies(spec: dict[str, Any], sent: list[Request]) -> None:
    """Each POST asks for a report as the definition has it for its product."""
    bodies = [json.loads(request.body) for request in sent if request.method == "POST"]
    assert {(body["product"], "include_subaccounts" in body) for body in bodies} == {
        ("SMS", False), ("SMS", True), ("MESSAGES", True),
    }  # fmt: skip
    kinds = spec["/v2/reports"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for body in bodies:
        [kind] = [k for k in kinds["oneOf"] if k["description"].upper() == body["product"]]
        known = {name for part in kind["allOf"] for name in part["properties"]} | NEWER
        assert set(body) <= known
        Draft202012Validator(kind).validate(body)


def test_nothing_but_these(sent: list[Request]) -> None:
    """Only documented methods are used, each with credentials, and never a message's body asked."""
    assert {request.method for request in sent} == {"GET", "POST"}
    assert all(request.credentials[0] for request in sent)
    assert not any("include_message" in request.target for request in sent)
