"""Generates code from Kafka's definitions: messages (`__main__`), settings (`config`), error classes (`errors`).

`error_tables` renders the tables of decisions into the documentation.
"""
