"""The pictures of the report in docs/, made anew: `python -m tests.browser.screenshots`.

Of an invented fortnight, in Chromium, by Playwright (`npm ci` in tests/browser comes first).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

from reconcile.present.report.page import write_report
from reconcile.settings import Settings
from tests.invented_month import START, Month, invent

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
MONTH = Month(days=28, networks=40, holes=(18,), half=(20,))
SHOWN = (START + timedelta(days=14), START + timedelta(days=28))
MOST_BYTES = 300_000


def main() -> None:
    """Makes the store, its report, and the pictures; fails where one is too large."""
    with tempfile.TemporaryDirectory() as folder:
        invent(Path(folder, "store"), MONTH)
        file = Path(folder, "report.html")
        write_report(Settings(store=Path(folder, "store")), file, *SHOWN)
        command = ["node", str(HERE / "look.mjs"), str(file), "screenshots", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for picture in sorted(Path(folder).glob("report-*.png")):
            size = picture.stat().st_size
            print(f"{picture.name}: {size:,} bytes")
            if size > MOST_BYTES:
                raise SystemExit(f"{picture.name} is larger than {MOST_BYTES:,} bytes")
            shutil.copy(picture, DOCS)


if __name__ == "__main__":
    main()
