"""The contestants: each function takes a task and returns a measurement, alone in a process of its own (see `bench.worker`)."""
