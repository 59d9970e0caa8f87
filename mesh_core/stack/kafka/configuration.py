"""What the local broker is told: its properties and its JVM's options."""

from __future__ import annotations

from pathlib import Path

from mesh_core.stack.ports import LOOPBACK

STARTED = "Kafka Server started"
"""The line of the log by which the broker says that it serves."""

JAVA_OPTIONS = (
    "-Xmx512m",
    "-Xms64m",
    "-XX:TieredStopAtLevel=1",  # starts in half the time; a laptop's load does not need the second compiler
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
)


def properties(data: Path, broker_port: int, controller_port: int) -> str:
    """`server.properties` of one KRaft node that is broker and controller, with its data under `data`."""
    values = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"BROKER://{LOOPBACK}:{broker_port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"BROKER://{LOOPBACK}:{broker_port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data / "log"),
        # Apart, so that a broken topic folder never takes the cluster's metadata with it.
        "metadata.log.dir": str(data / "metadata"),
        "auto.create.topics.enable": "false",
        # A restart after SIGKILL waits for this time-out: 9 seconds by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        "log.retention.ms": "-1",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())
