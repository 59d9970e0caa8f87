"""`mesh new`: what it writes is as good as what is in the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mesh_core.cli.main import main
from mesh_core.settings import ROOT


def new(domain: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["mesh", "new", domain])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_its_files_are_clean_and_it_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mesh_core.settings.ROOT", tmp_path)
    assert new("garden", monkeypatch) == 0
    assert "echo MESH_CATALOG=projections.northwind,projections.garden >> .env" in capsys.readouterr().out
    folder = tmp_path / "projections" / "garden"
    assert {path.name for path in folder.iterdir()} == {
        "__init__.py",
        "events.py",
        "entities.py",
        "views.py",
        "history.jsonl",
        "test_garden.py",
    }
    assert not any("DOMAIN" in path.read_text() for path in folder.iterdir())
    # The layout of imports is known only beside the rest of the project.
    for check in (["check", "--ignore", "I"], ["format", "--check"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *check,
            "--config",
            str(ROOT / "pyproject.toml"),
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    (folder / "views.py").write_text("mine")
    assert new("garden", monkeypatch) == 1
    assert (folder / "views.py").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["Garden", "1st", "class", "mesh", "northwind", "a-b", "../etc", "", "x" * 31]
)
def test_names_that_cannot_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_core.settings.ROOT", tmp_path)
    assert new(name, monkeypatch) == 2
    assert list(tmp_path.iterdir()) == []
