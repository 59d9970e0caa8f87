"""The log through kafka-python: the client that serves everything."""
