"""The source of a TypeScript client. What is the same for every mesh is in the folder `typescript`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

TYPES: Mapping[str, str] = {
    "int": "Whole",
    "text": "string",
    "numeric": "Decimal",
    "float": "number",
    "bool": "boolean",
    "timestamptz": "string",
    "date": "string",
    "uuid": "string",
    "json": "Json",
}
"""The type of a value in a row, by what its column holds."""

_SCHEMA = """\
import type {{ Json }} from "./values.js";

/** A Decimal. A number has 15 digits that can be relied on; a string has all. */
export type Decimal = {decimals};
/** A whole number of up to 64 bits. */
export type Whole = {integers};
/** How numbers are read. */
export const numbers = {{ decimals: "{decimals}", integers: "{integers}" }} as const;

{rows}
/** The row of each view. */
export interface Rows {{
{names}}}

/** The key of each view, and what its columns hold. */
export const views = {{
{views}}} as const;
"""


def files(views: Sequence[Mapping[str, Any]], decimals: str, integers: str) -> dict[str, str]:
    """Source by file name, for views as the catalogue tells them; numbers are read as these types."""
    ordered = sorted(views, key=lambda view: str(view["name"]))
    schema = _SCHEMA.format(
        decimals=decimals,
        integers=integers,
        rows="\n".join(map(_row, ordered)),
        names="".join(f"  {view['name']}: {row_name(view['name'])};\n" for view in ordered),
        views="".join(map(_facts, ordered)),
    )
    fixed = sorted(resources(__package__).joinpath("typescript").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in fixed} | {"schema.ts": schema}


def row_name(view: str) -> str:
    """The interface of a view's rows: `order_overview` as `OrderOverviewRow`, no two views alike."""
    # An underscore before a digit stays, or a_1 would be a1.
    return re.sub(r"(?:^|_)([a-z])", lambda found: found[1].upper(), view) + "Row"


def _row(view: Mapping[str, Any]) -> str:
    about = _comment(view.get("doc") or f"A row of {view['name']}.")
    key = _comment(f"One per {view['root']}, by {', '.join(view['key'])}.")
    columns = "".join(map(_column, view["columns"]))
    return f"/**\n * {about}\n *\n * {key}\n */\nexport interface {row_name(view['name'])} {{\n{columns}}}\n"


def _column(column: Mapping[str, Any]) -> str:
    about = f"  /** {_comment(column['doc'])} */\n" if column.get("doc") else ""
    return f"{about}  readonly {column['name']}: {_type(column)};\n"


def _type(column: Mapping[str, Any]) -> str:
    return TYPES[column["type"]] + (" | null" if column["nullable"] and column["type"] != "json" else "")


def _facts(view: Mapping[str, Any]) -> str:
    columns = "".join(f'      {column["name"]}: "{column["type"]}",\n' for column in view["columns"])
    return f"  {view['name']}: {{\n    key: {json.dumps(view['key'])},\n    columns: {{\n{columns}    }},\n  }},\n"


def _comment(text: str) -> str:
    """On one line, and nothing in it ends the comment."""
    return " ".join(text.split()).replace("*/", "*\u200b/")
