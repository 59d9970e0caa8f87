"""Contracts at work: decoding events by them, and publishing them as JSON Schema."""

from mesh_core.contracts.asyncapi import asyncapi
from mesh_core.contracts.compatibility import Change, Mode, differences
from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.contracts.ingest import Accepted, Contracts
from mesh_core.contracts.limits import check_decimal, contains_nul, to_json_text
from mesh_core.contracts.reading import SchemaNotUnderstood, contract_of, contracts_of
from mesh_core.contracts.refusals import Refusal, Unknown
from mesh_core.contracts.schema import data_schema, json_schema

__all__ = [
    "Accepted",
    "Change",
    "Contracts",
    "Mode",
    "Refusal",
    "SchemaNotUnderstood",
    "TopicDecoder",
    "Unknown",
    "asyncapi",
    "check_decimal",
    "contains_nul",
    "contract_of",
    "contracts_of",
    "data_schema",
    "differences",
    "json_schema",
    "to_json_text",
]
