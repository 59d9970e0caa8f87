"""Peers: what a team would write by hand, and other tools, on the same jobs."""
