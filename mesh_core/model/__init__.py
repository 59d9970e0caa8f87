"""What a team declares: events, entities, edges and views. Pure data, no input or output."""

from mesh_core.model.catalog import Catalog
from mesh_core.model.edges import Many, One, by_workflow, many, one
from mesh_core.model.entity import Col, Entity, Key, column
from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import Contract, Event, Part
from mesh_core.model.folds import (
    add,
    delete,
    event_id,
    event_source,
    event_time,
    max_,
    min_,
    patch,
    upsert,
    workflow_id,
)
from mesh_core.model.foreign import ForeignTopic, json_topic, outbox_topic, row_changes
from mesh_core.model.upcasts import upcast
from mesh_core.model.view import CustomView, View

__all__ = [
    "Catalog",
    "Col",
    "Contract",
    "CustomView",
    "DeclarationError",
    "Entity",
    "Event",
    "ForeignTopic",
    "Key",
    "Many",
    "One",
    "Part",
    "View",
    "add",
    "by_workflow",
    "column",
    "delete",
    "event_id",
    "event_source",
    "event_time",
    "json_topic",
    "many",
    "max_",
    "min_",
    "one",
    "outbox_topic",
    "patch",
    "row_changes",
    "upcast",
    "upsert",
    "workflow_id",
]
