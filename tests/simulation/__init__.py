"""The deterministic simulation: the real producer in a world where time, network and cluster follow from a seed.

`world` is time; `cluster` a model of Kafka around the embedded broker's own rules; `network` the connections between it
and the native engine; `client` the producer (controller and engine, stepped) and the application; `plan` what a seed
decides; `nemesis` what goes wrong and when; `run` one seed from beginning to verdict.
"""
