"""A catalog module that cannot be loaded is told in one sentence, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_core.model import Catalog, DeclarationError


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        (
            "typo",
            "from projections.northwind.entities import Customer\nx = Customer.compny\n",
            "typo.py, line 2: Attr",
        ),
        ("open_bracket", "x = (\n", "open_bracket.py, line 1: SyntaxError"),
        ("raising", "\n\nraise ValueError('no')\n", "raising.py, line 3: ValueError: no"),
        (
            "summed",
            "from projections.northwind.entities import Order\nfrom mesh_core.model import many\n"
            "orders = many(Order.customer_id, Order.order_id)\n",
            "summed.py, line 3: ",
        ),
        ("missing_import", "import not_there_at_all\n", "missing_import cannot be imported: No module named"),
    ],
)
def test_what_is_wrong_with_a_module_is_one_sentence(
    name: str, source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError) as error:
        Catalog.load(name)
    assert said in str(error.value)
