"""Paired, interleaved benchmarks against other clients on one real Kafka: `python -m bench` (or `make bench`)."""
