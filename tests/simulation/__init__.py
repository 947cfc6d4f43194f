"""The deterministic simulation: the real producer in a world in which time, network and cluster follow from a seed.

`world` is time; `cluster` a model of Kafka on the embedded broker's handlers; `network` the connections between it and the
native engine; `client` the producer (controller and engine, stepped) and the application; `plan` the decisions of a
seed; `nemesis` the faults and their times; `run` one seed from beginning to verdict.
"""
