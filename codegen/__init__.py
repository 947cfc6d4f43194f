"""Generates `src/penstock/protocol/messages` from Kafka's own message definitions; see `__main__`."""
