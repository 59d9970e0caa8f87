"""Errors of the store."""

from __future__ import annotations

from mesh_core.errors import MeshError


class StoreError(MeshError):
    """The database is not as it should be."""


class NotDeployed(StoreError):
    """Nothing is deployed yet."""


class Fenced(StoreError):
    """Another projector has taken this partition over."""


class ForeignPartition(StoreError):
    """A key came from two partitions."""

    def __init__(self, topic: str, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.topic = topic
