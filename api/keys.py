"""Keys in paths: a key may have any character, a slash and a line break among them."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


class KeyConvertor(PathConvertor):
    """As `path`, which stops at the end of a line."""

    regex = r"[\s\S]*"


register_url_convertor("key", KeyConvertor())
