"""A catalog module that cannot be loaded is told in one sentence, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_core.model import Catalog, DeclarationError

REFUSED = (
    "from projections.northwind.entities import Order\nfrom mesh_core.model import many\n"
    "orders = many(Order.customer_id, Order.order_id)\n"
)


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
        ("summed", REFUSED, "summed.py, line 3: "),
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


@pytest.mark.parametrize("source", [REFUSED, "raise ValueError\n"])
def test_a_file_is_named_by_its_path(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("below", "beside"):
        package = tmp_path / folder / f"{folder}_{len(source)}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "views.py").write_text(source)
        monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(tmp_path / "below")
    for name, shown in (("below", Path()), ("beside", tmp_path / "beside")):
        with pytest.raises(DeclarationError) as error:
            Catalog.load(f"{name}_{len(source)}.views")
        assert f"{shown / f'{name}_{len(source)}' / 'views.py'}, line " in f" {error.value}"
