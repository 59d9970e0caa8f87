"""Contracts as files: the JSON Schema of each payload, and the AsyncAPI document of all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mesh_core.contracts import asyncapi, contract_of, data_schema
from mesh_core.errors import UsageError
from mesh_core.model import Contract
from mesh_core.model.event import TYPE_PATTERN

_DOCUMENT = "asyncapi.json"


def write(folder: Path, contracts: Iterable[Contract]) -> None:
    """Write them, and remove files of types that are not among them. Raises UsageError where that cannot be done."""
    found = {f"{contract.type}.json": contract for contract in contracts}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.json"):
            if file.name not in found and TYPE_PATTERN.fullmatch(file.stem):
                file.unlink()
        for name, contract in found.items():
            doc = {"description": contract.doc} if contract.doc else {}
            _write(folder / name, data_schema(contract) | doc)
        _write(folder / _DOCUMENT, asyncapi(found.values()))
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror}.") from error


def _write(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Contract]:
    """The contracts of a folder, by event type. Raises UsageError where it has none, or one cannot be understood."""
    found: dict[str, Contract] = {}
    for file in sorted(folder.glob("*.json")):
        if TYPE_PATTERN.fullmatch(file.stem):
            try:
                schema = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UsageError(f"{file} is not JSON that can be read: {error}.") from error
            found[file.stem] = contract_of(file.stem, schema)
    if not found:
        raise UsageError(
            f"{folder} has no contracts.", remedy=f"Write them with mesh contracts export --to {folder}."
        )
    return found
