"""mypy --strict takes right declarations, and refuses wrong ones at exactly the lines that say so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WRONG, RIGHT = HERE / "wrong_declarations.py", HERE / "right_declarations.py"


@pytest.fixture(scope="module")
def refused() -> dict[str, set[int]]:
    """The lines at which mypy finds errors, by file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(RIGHT), str(WRONG)]
    found = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=110)
    assert found.returncode == 1, found.stderr
    lines: dict[str, set[int]] = {}
    for name, line in re.findall(r"^(.+?):(\d+): error", found.stdout, re.MULTILINE):
        lines.setdefault(Path(name).name, set()).add(int(line))
    return lines


def test_mypy_takes_right_declarations(refused: dict[str, set[int]]) -> None:
    assert not refused.keys() - {WRONG.name}


def test_mypy_refuses_exactly_the_wrong_lines(refused: dict[str, set[int]]) -> None:
    source = WRONG.read_text().splitlines()
    marked = {number for number, line in enumerate(source, 1) if "# refused:" in line}
    found = refused[WRONG.name]
    assert [source[n - 1] for n in sorted(marked - found)] == [], "not refused"
    assert [source[n - 1] for n in sorted(found - marked)] == [], "refused without being marked"


def test_right_declarations_work_at_run_time() -> None:
    from tests.typing import right_declarations

    assert set(right_declarations.catalog.views) == {"typing_orders", "typing_custom"}
