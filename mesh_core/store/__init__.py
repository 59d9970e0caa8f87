"""Postgres: tables from declarations, set-based writes, checkpoints."""
