"""The log through confluent-kafka: an extra, for reading history faster."""
