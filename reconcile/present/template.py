"""The commented `reconcile.toml` that `init` writes, made from the settings themselves."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from reconcile.settings import Settings

HEAD = """\
# Settings of the reconciliation job. A flag outranks the environment (RECONCILE_NAME), which
# outranks this file. Secrets never stand here: put VONAGE_API_KEY and VONAGE_API_SECRET (or
# VONAGE_API_SECRET_FILE) into the environment. What is commented out shows the default.
"""
TAIL = """
# Several accounts, each with the place of its secret:
# [[accounts]]
# api_key = "abcd1234"
# api_secret_file = "/etc/reconcile/abcd1234.secret"
# subaccounts = ["efgh5678"]      # each downloaded by itself, with this account's credentials; or
# include_subaccounts = true      # all of them with this account, in one report
# signature_method = "md5hash"    # how its receipts are signed
# signature_secret_env = "ABCD1234_SIGNATURE_SECRET"

# Receipts that lie in a database, read on from the last key (SQLAlchemy; the URL is a secret):
# [[dlr_sql]]
# name = "callbacks"              # their source in the tables
# url_env = "DLR_DATABASE_URL"    # or url_file
# query = "SELECT id, payload, created_at FROM dlr_callbacks"
# key = "id"                      # a whole number, unique and growing
# columns = {captured_at = "created_at"}
"""


def settings_file(given: dict[str, Any]) -> str:
    """The text of a settings file with these set and all others shown."""
    lines = [HEAD]
    for name, field in Settings.model_fields.items():
        if name in ("accounts", "dlr_sql"):
            continue
        lines.append(f"\n# {field.description}")
        if name in given:
            lines.append(f"{name} = {json.dumps(given[name])}")
        else:
            lines.append(f"# {name} = {_toml(field.get_default())}")
    return "\n".join(lines) + "\n" + TAIL


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, timedelta):
        return json.dumps(_duration(value))
    return json.dumps(value, default=str)


def _duration(span: timedelta) -> str:
    ms = round(span.total_seconds() * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"
