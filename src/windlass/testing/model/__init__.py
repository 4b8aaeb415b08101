"""The model: a driver so simple that it is plainly right, and programs that compare another driver with it."""

import pytest

# So that a difference shows its values; must come before the import of what is to be rewritten.
pytest.register_assert_rewrite(f"{__name__}.machine", f"{__name__}.reference")

from windlass.testing.model.machine import DriverMachine, run_model  # noqa: E402
from windlass.testing.model.reference import Model  # noqa: E402

__all__ = ["DriverMachine", "Model", "run_model"]
