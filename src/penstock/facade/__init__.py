"""The parts that `KafkaProducer` and `AsyncKafkaProducer` share. Private: applications import from `penstock`."""
