"""The straight way to take events by HTTP: a FastAPI route that hands the body to Kafka and waits until it is there.

PORT=8000 DRIVER=kafka-python python -m bench.floor.ingest
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastapi import FastAPI, Request, Response

from bench.events_catalog import PaymentMade
from mesh_core.cli.serve import bind, server_of

TOPIC = PaymentMade.topic
SERVERS = os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"]


def create_app() -> FastAPI:
    """The route, over the driver that the environment names."""
    app = FastAPI()
    send = with_confluent() if os.environ["DRIVER"] == "confluent-kafka" else with_kafka_python()

    @app.post("/v1/events")
    async def take(request: Request) -> Response:
        body = await request.body()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(failure: Any) -> None:
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(RuntimeError(str(failure)))

        send(
            request.headers["ce-key"].encode(),
            body,
            lambda failure: loop.call_soon_threadsafe(settle, failure),
        )
        await done
        return Response(status_code=202)

    return app


def with_kafka_python() -> Any:
    """Sends with kafka-python."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=SERVERS, enable_idempotence=True, acks="all", linger_ms=5, compression_type="lz4"
    )

    def send(key: bytes, value: bytes, done: Any) -> None:
        sent = producer.send(TOPIC, value=value, key=key)
        sent.add_callback(lambda _: done(None))
        sent.add_errback(done)

    return send


def with_confluent() -> Any:
    """Sends with confluent-kafka."""
    import threading

    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": SERVERS,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
        }
    )

    def serve() -> None:
        while True:
            producer.poll(0.1)

    threading.Thread(target=serve, daemon=True).start()

    def send(key: bytes, value: bytes, done: Any) -> None:
        producer.produce(TOPIC, value=value, key=key, on_delivery=lambda failure, _: done(failure))

    return send


if __name__ == "__main__":
    server_of(create_app()).run([bind("127.0.0.1", int(os.environ["PORT"]))])
