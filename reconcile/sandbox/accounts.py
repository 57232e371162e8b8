"""The accounts of a data folder: their secrets, and which of them are subaccounts of another.

An account of `sandbox.json` has an `api_key` and an `api_secret`; a subaccount names the key of
its primary as `parent`. A primary may ask for its subaccounts with its own credentials.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reconcile.errors import InputError
from reconcile.sandbox.protocol import problem

FORMAT = 1


@dataclass(frozen=True)
class Accounts:
    """Each account's secret, and each subaccount's primary, by api_key in the file's order."""

    secrets: dict[str, str]
    primaries: dict[str, str]

    def subaccounts(self, primary: str) -> tuple[str, ...]:
        """The keys of an account's subaccounts."""
        return tuple(key for key, of in self.primaries.items() if of == primary)

    def demand_right(self, account: str, asked: str) -> None:
        """Refuses an account that asks for another than itself and its subaccounts."""
        if asked not in (account, *self.subaccounts(account)):
            detail = "User not authorized to query the requested data."
            raise problem(403, "#forbidden", "Forbidden", detail)


def read_accounts(path: Path) -> Accounts:
    """Reads a `sandbox.json`.

    Raises:
        InputError: it is missing or malformed, or names a primary that is none.
    """

    def refuse(why: object) -> NoReturn:
        raise InputError(f"{path.parent} is no data folder of the sandbox: {path.name} {why}")

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            refuse(f"has format {content['format']!r}, not {FORMAT}")
        listed = content["accounts"]
        secrets = {str(each["api_key"]): str(each["api_secret"]) for each in listed}
        primaries = {str(each["api_key"]): str(each["parent"])
                     for each in listed if "parent" in each}  # fmt: skip
    except OSError as error:
        refuse(f"cannot be read ({error.strerror})")
    except (ValueError, KeyError, TypeError, AttributeError):
        refuse("does not hold a format and a list of accounts with api_key and api_secret")
    for key, primary in primaries.items():
        if primary not in secrets or primary in primaries:
            refuse(f"has a subaccount {key} of {primary}, which is no primary account")
    return Accounts(secrets, primaries) if secrets else refuse("names no account")
