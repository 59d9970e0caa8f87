"""The local Kafka and Postgres, without containers: for a laptop, the demo and the tests.

    addresses = stack.start(directory)      # both, if they do not run; they outlive this process
    stack.kafka.kill(directory)             # one of them, for tests of faults

Whoever needs Kafka or Postgres asks `resolve(settings)`, and so never cares whether they are local.
"""

from mesh_core.stack import kafka, postgres
from mesh_core.stack.errors import MissingPrerequisite, ServiceFailed, StackBusy, StackError, StackNotRunning
from mesh_core.stack.local import (
    ServiceStatus,
    StackAddresses,
    addresses,
    bootstrap_servers,
    reset,
    resolve,
    start,
    status,
    stop,
)

__all__ = [
    "MissingPrerequisite",
    "ServiceFailed",
    "ServiceStatus",
    "StackAddresses",
    "StackBusy",
    "StackError",
    "StackNotRunning",
    "addresses",
    "bootstrap_servers",
    "kafka",
    "postgres",
    "reset",
    "resolve",
    "start",
    "status",
    "stop",
]
