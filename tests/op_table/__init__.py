"""One row per public op: how to draw its inputs, and a NumPy oracle. `test_ops.py` derives all tests from it.

A row's strategy draws (arrays, options). Where an op has kinks, its inputs stay away from them, so that central
differences mean something; what happens at a kink has tests of its own.
"""

from tests.op_table import elementwise, networks, shaping, windows
from tests.op_table.drawing import ROWS, Row

__all__ = ["ROWS", "Row", "elementwise", "networks", "shaping", "windows"]
