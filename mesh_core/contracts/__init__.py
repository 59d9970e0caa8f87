"""Contracts at work: decoding events by them, and publishing them as JSON Schema."""

from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.contracts.ingest import Accepted, Contracts
from mesh_core.contracts.limits import check_decimal, contains_nul, to_json_text
from mesh_core.contracts.refusals import Refusal, Unknown
from mesh_core.contracts.schema import data_schema, json_schema

__all__ = [
    "Accepted",
    "Contracts",
    "Refusal",
    "TopicDecoder",
    "Unknown",
    "check_decimal",
    "contains_nul",
    "data_schema",
    "json_schema",
    "to_json_text",
]
