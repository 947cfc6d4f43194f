"""Penstock: the Kafka producer for Python."""
