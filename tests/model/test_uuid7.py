"""Identifiers that sort by time."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from mesh_core.model.identifiers import uuid7, uuid7_text


def test_a_new_one_is_of_version_7_and_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid7(), UUID(uuid7_text())]
    after = time.time_ns() // 1_000_000
    for each in made:
        assert (each.version, each.variant) == (7, RFC_4122)
        assert before <= each.int >> 80 <= after
    assert made[0] != made[1]


def test_as_text_it_is_written_as_a_uuid_is() -> None:
    text = uuid7_text()
    assert str(UUID(text)) == text
