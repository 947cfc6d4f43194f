"""Shared by tests: foreign clients that read the records, and Java as a judge."""
