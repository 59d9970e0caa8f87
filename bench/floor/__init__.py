"""Floors: straight scripts that do a workload's job and nothing else, as fast as is sensible."""
