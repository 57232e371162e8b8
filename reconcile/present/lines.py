"""What is said on stderr, a line for each thing: as text for people, or as JSON for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconcile.days import iso
from reconcile.present.text import printable

TEXT, JSON = "text", "json"


@dataclass
class Lines:
    """The one place from which lines go to stderr; `form` is that of `--log-format`."""

    form: str = TEXT

    @property
    def is_json(self) -> bool:
        """Whether each line is a JSON object."""
        return self.form == JSON

    def tell(self, event: str, message: str, **facts: Any) -> None:
        """One line: `reconcile: MESSAGE`, or an object with `at`, `event`, `message` and facts.

        Args:
            event: progress, incomplete, exceeded, warning, error or end.
            message: for people.
            facts: for programs; text shows the message alone.
        """
        text = f"reconcile: {printable(message)}"
        if self.is_json:
            told = {"at": iso(datetime.now(UTC)), "event": event, "message": message, **facts}
            text = json.dumps(told, ensure_ascii=False)
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
