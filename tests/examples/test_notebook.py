"""The notebook, run as a script on Northwind: its figures are those of the files."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from mesh_core.settings import ROOT
from tests.engine.replay.conftest import northwind as northwind
from tests.support.mesh import Mesh, environment_of

DATA = ROOT / "projections" / "northwind" / "data"


def table(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_answers_its_three_questions(northwind: Mesh, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "notebook" / "northwind.py")],
        env=environment_of(northwind.settings) | {"MESH_LOG_LEVEL": "warning", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    orders = table("orders")
    backlog = re.findall(r"^(\d{4}-\d\d-\d\d) +(\d+) of +(\d+)", done.stdout, re.MULTILINE)
    assert len(backlog) == 4
    for day, still_open, placed in backlog:
        before = [row for row in orders if date.fromisoformat(row["order_date"]) < date.fromisoformat(day)]
        late = [row for row in before if not row["shipped_date"] or row["shipped_date"] >= day]
        assert (int(placed), int(still_open)) == (len(before), len(late)), day
    years = {row["order_id"]: row["order_date"][:4] for row in orders}
    discounts = dict.fromkeys(sorted(set(years.values())), Decimal(0))
    for row in table("order_details"):
        amount = Decimal(row["unit_price"]) * int(row["quantity"]) * Decimal(row["discount"])
        discounts[years[row["order_id"]]] += amount
    for year, amount in discounts.items():
        assert re.search(rf"{year} .*{amount:.4f}", done.stdout), (year, amount, done.stdout)
