"""The contestants: each function takes a task and returns a measurement, alone in its process (see `bench.worker`)."""
