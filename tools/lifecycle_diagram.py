"""Write the diagram of a job's life into the docs, from the table that the code obeys.

`windlass.lifecycle.diagram()` draws the table of legal moves; the page holds the drawing between two marks.
With `--check` nothing is written: the exit code says whether the page is up to date.
"""

import argparse
import re
import sys
from pathlib import Path

from windlass import lifecycle

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
MARKED = re.compile(r"(<!-- lifecycle: made by tools/lifecycle_diagram.py -->\n).*?(<!-- /lifecycle -->)", re.DOTALL)


def refreshed(page: str) -> str:
    """Return the page with a fresh drawing between the marks."""
    block = f"\n```text\n{lifecycle.diagram().rstrip()}\n```\n\n"
    text, found = MARKED.subn(lambda match: match[1] + block + match[2], page)
    if found != 1:
        sys.exit(f"{PAGE.name} must hold the lifecycle marks once, not {found} times")
    return text


def main() -> None:
    """Refresh the page, or check that it needs no refreshing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = refreshed(old)
    if check and new != old:
        sys.exit(f"{PAGE.name} shows an old lifecycle; `make docs` draws it anew")
    if new != old:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
