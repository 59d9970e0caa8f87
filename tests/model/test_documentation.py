"""The reference of declarations is true: its code runs, and it names every reason for a refusal."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from mesh_core.contracts.refusals import Reason

TEXT = (Path(__file__).parents[2] / "docs/reference/declarations.md").read_text()
IMPORTS = """
from datetime import date, datetime
from decimal import Decimal
from mesh_core.model import *
"""


def test_the_code_of_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    code = IMPORTS + "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    module = ModuleType("declarations_of_the_reference")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "declarations.md", "exec"), vars(module))  # noqa: S102  # our own documentation
    assert module.order_overview.model.entities == {"sales.order", "crm.customer", "sales.line"}


def test_the_reference_names_every_reason() -> None:
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in TEXT] == []
