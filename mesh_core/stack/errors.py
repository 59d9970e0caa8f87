"""What can go wrong with the local stack, each with its remedy."""

from __future__ import annotations

from mesh_core.errors import DependencyUnavailable


class StackError(DependencyUnavailable):
    """The local stack cannot do what was asked."""


class MissingPrerequisite(StackError):
    """A program that the local stack needs is not installed."""


class StackNotRunning(StackError):
    """The local stack is not running."""


class ServiceFailed(StackError):
    """A service of the local stack did not start or stop."""


class StackBusy(StackError):
    """Another process is starting or stopping the same local stack."""
