"""Kafka's wire protocol for control requests: primitives, versions, generated messages."""
