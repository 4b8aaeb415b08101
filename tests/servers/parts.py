"""Parts of the machine that tests need and that may be missing.

A test that needs one is skipped with the reason, unless ``WINDLASS_REQUIRE`` names the part
(``WINDLASS_REQUIRE=pg18,pg15,pgbouncer``): then it fails.
"""

import os
from typing import NoReturn

import pytest


def missing(part: str, reason: str) -> NoReturn:
    """Skip the test that asks, or fail it where *part* is required."""
    required = {name.strip() for name in os.environ.get("WINDLASS_REQUIRE", "").split(",")}
    if part in required:
        pytest.fail(f"{part} is required by WINDLASS_REQUIRE, but missing: {reason}", pytrace=False)
    pytest.skip(f"{part} is missing: {reason}")
