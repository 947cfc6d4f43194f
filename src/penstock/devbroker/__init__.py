"""An embedded Kafka broker for development, tests and demos."""
