"""The model: a driver so simple that it is plainly right, and programs that compare another driver with it."""

from windlass.testing.model.machine import DriverMachine, run_model
from windlass.testing.model.reference import Model

__all__ = ["DriverMachine", "Model", "run_model"]
