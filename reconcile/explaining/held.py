"""Which rules held of a message, and what each of them looked at."""

from __future__ import annotations

from typing import Any

from reconcile import vocabulary as words
from reconcile.explaining.told import Heard, Held, Row

# The columns of `rules.GRID`: what the deciding receipt says.
GRID_COLUMNS = ("none, or not final", "unknown", "same outcome", "other outcome")
CONFIRMED = "Record and deciding receipt tell the same end."
# Of a rule: the columns of the judged message that it looked at, and those of each receipt.
ENDS = ("status", "receipt_status")
LOOKED_AT: dict[str, tuple[str, ...]] = {
    # contradictions
    "recipient_mismatch": ("recipient", "receipts.recipient"),
    "time_travel": ("received_at", "finalized_at", "latency_ms", "receipts.pushed_at"),
    "foreign_network": ("country", "network_code", "receipts.network_code", "receipts.country"),
    "bad_signature": ("receipts.signature",),
    "status_error_contradiction": ("receipt_status", "receipt_error_code"),
    "conflicting_finals": ("receipts.status",),
    # the grid
    "in_flight": (*ENDS, "matures_at", "grace_ends_at", "as_of"),
    "record_open": (*ENDS, "matures_at", "as_of"),
    "carrier_silent": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "record_never_final": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "unattributed": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "record_stale": (*ENDS, "fetched_at", "expires_at"),
    "status_unknown": ENDS,
    "record_unknown": ENDS,
    "lost_webhook": (*ENDS, "finalized_at", "grace_ends_at", "as_of"),
    "status_conflict": ENDS,
    # refinements
    "no_receipt_expected": ("country", "network_code", "capability", "receipt_status"),
    "record_deleted": ENDS,
    "platform_expired": ("elapsed_ms", "validity_ms", "within_ms"),
    "error_unknown": ("receipt_status", "receipt_error_code"),
    "unmapped_status": ENDS,
    "unmapped_error": ("receipt_status", "receipt_error_code"),
    "capture_outage": ("finalized_at", "received_at", "network_code"),
    # context
    "duplicate_receipt": ("receipts", "duplicates"),
    "out_of_order": ("receipts.status", "receipts.pushed_at"),
    "late_capture": ("received_at", "receipt_captured_at", "captured_after_ms"),
    "sender_rewritten": ("sender", "sender_used"),
    "network_differs": ("network_code", "receipt_network_code"),
    "account_differs": ("account_id", "receipt_account_id"),
    "ambiguous_account": ("account_id", "receipts.account_id"),
    "price_differs": ("price", "receipt_price"),
    "charged_not_delivered": ("price", "end"),
    "too_fast": ("latency_ms", "too_fast_ms"),
    "untrusted_network": ("country", "network_code", "capability"),
    "unsent_by_us": ("account_id", "received_at"),
}


def cell_of(row: Row) -> tuple[str, str]:
    """The cell of the grid, as row and column."""
    from reconcile.judge.rules import GRID

    return GRID[row["cell"] // 4][0], GRID_COLUMNS[row["cell"] % 4]


def rules_held(row: Row, facts: Row, heard: list[Heard]) -> list[Held]:
    """The rules that held in the order in which they are asked, and the cell of the grid."""
    from reconcile.judge import rules

    reasons = set(row["reasons"])
    contradicted = any(rule.name in reasons for rule in rules.CONTRADICTIONS)
    kinds = ((rules.CONTRADICTIONS, "contradiction"),
             ((*rules.REFINEMENTS, rules.OUTAGE), "refinement"),
             (rules.CONTEXT, "context"))  # fmt: skip
    held = {rule.name for n, rule in enumerate(rules.RULES) if row["held"] >> n & 1} | reasons
    found = [
        Held(rule.name, kind, rule.verdict, rule.sentence, rule.name in reasons,
             *_seen(rule.name, facts, heard))
        for some, kind in kinds for rule in some if rule.name in held
    ]  # fmt: skip
    refined = any(each.kind == "refinement" and each.counts for each in found)
    reason = row["cell_reason"]
    cell = Held(
        reason or "", "grid", row["cell_verdict"],
        rules.GRID_SENTENCES.get(reason, "") if reason else CONFIRMED,
        not contradicted and not refined, *_seen(reason or "", facts, heard),
    )  # fmt: skip
    order = {"contradiction": 0, "grid": 1, "refinement": 2, "context": 3}
    return sorted([*found, cell], key=lambda each: order[each.kind])


def _seen(name: str, facts: Row, heard: list[Heard]) -> tuple[Row, list[Row]]:
    """What a rule looked at, in the message and in each receipt; nothing of unknown rules."""
    columns = LOOKED_AT.get(name, () if name else ENDS)
    values = {name: facts.get(name) for name in columns if "." not in name}
    inner = [name.partition(".")[2] for name in columns if "." in name]
    receipts = [
        {"source": each.row["source"], "line": each.row["line"]}
        | {name: _of_receipt(each.row, name) for name in inner}
        for each in heard
        if inner and not each.ignored
    ]
    return values, receipts


def _of_receipt(row: Row, name: str) -> Any:
    if name == "country":
        return dict(words.mcc_table()).get((row["network_code"] or "")[:3])
    return row.get(name)
