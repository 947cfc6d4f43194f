"""The benchmark's computations; nothing is timed here."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from bench.contestants.common import Load, Pace, latency_figures, percentile
from bench.contestants.confluent import settings_of
from bench.corpus import documents
from bench.default_rows import DEFAULT_ROWS
from bench.fault_rows import FAULT_ROWS
from bench.faults import MIX, RESET, Faults
from bench.figures import compare, derived, order, overlaid, verdict
from bench.network_rows import NETWORK_ROWS
from bench.outages import recovery_figures
from bench.places import Place
from bench.report import bounds
from bench.row import IDEMPOTENT, Contestant, Line, Row, Target
from bench.rows import ROWS

from fault_rules import Plan  # isort: skip (bench.places puts its folder on the path)

ALL_ROWS = [*ROWS, *DEFAULT_ROWS, *FAULT_ROWS, *NETWORK_ROWS]


def run(rate: float) -> dict[str, Any]:
    return derived({"count": 1000, "seconds": 1000 / rate, "cpu_seconds": 0.002, "failures": 0})


def test_ratios_compare_consecutive_runs() -> None:
    """The machine slows down by half in the second round: the medians change, the ratio of each pair does not."""
    runs = {"a": [run(400), run(200), run(410)], "b": [run(100), run(50), run(100)]}
    (one,) = compare(runs, Line("a", "b", (Target("messages_per_s", at_least=4.0),)))
    assert (round(one.ours), round(one.theirs), one.met) == (400, 100, True)
    assert (round(one.ratio, 6), round(one.low, 6), round(one.high, 6)) == (4.0, 4.0, 4.1)


def test_cost_follows_from_cpu_time() -> None:
    assert run(100)["cpu_us_per_message"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("ratio", "target", "met"),
    [
        (3.999, Target("messages_per_s", at_least=4.0), False),
        (4.0, Target("messages_per_s", at_least=4.0), True),
        (0.2001, Target("cpu_us_per_message", at_most=0.2), False),
        (1.1, Target("cpu_us_per_message", 0.85, 1.15), True),
        (0.8, Target("cpu_us_per_message", 0.85, 1.15), False),
        (7.0, Target("messages_per_s"), None),
    ],
)
def test_an_unrounded_ratio_is_compared_with_its_target(ratio: float, target: Target, met: bool | None) -> None:
    assert verdict(ratio, target) is met


def test_the_order_of_contestants_changes() -> None:
    assert order(["a", "b", "c"], 0) == ["a", "b", "c"]
    assert order(["a", "b", "c"], 1) == ["c", "b", "a"]


def test_a_quick_run_overrides_row_and_contestant() -> None:
    contestants = {"a": Contestant("x:y", {"size": 7}, {"size": 3}), "b": Contestant("x:y")}
    row = Row("r", "t", contestants, (), {"count": 10, "size": 5}, {"count": 1})
    assert overlaid(row, "a", quick=False) == {"partitions": 6, "count": 10, "size": 7}
    assert overlaid(row, "a", quick=True) == {"partitions": 6, "count": 1, "size": 3}
    assert overlaid(row, "b", quick=True) == {"partitions": 6, "count": 1, "size": 5}


def test_percentiles_are_values_that_were_measured() -> None:
    ordered = [float(number) for number in range(1, 1001)]
    assert [percentile(ordered, p) for p in (0, 50, 99, 99.9, 100)] == [1.0, 500.0, 990.0, 999.0, 1000.0]
    assert percentile([5.0], 99.9) == 5.0
    assert latency_figures([0.003, 0.001, 0.002]) == {"p50_ms": 2.0, "p99_ms": 3.0, "p99_9_ms": 3.0}


def test_an_open_loop_makes_up_for_delayed_records() -> None:
    pace = Pace({"rate": 1000, "duration_s": 2})
    assert (pace.due_by(pace.began - 1), pace.due_by(pace.began)) == (0, 1)
    assert pace.due_by(pace.began + 0.5) == 501
    assert pace.due_by(pace.began + 60) == 2000
    assert pace.due(500) == pytest.approx(pace.began + 0.5)


def test_a_load_is_divided_into_chunks() -> None:
    load = Load({"count": 25, "size": 4, "keys": 3, "chunk": 10})
    assert (list(load.sizes()), load.values[0], len(load.values)) == ([10, 10, 5], b"xxxx", 10)
    assert load.keys is not None
    assert load.keys[:4] == [b"key-00000000", b"key-00000001", b"key-00000002", b"key-00000000"]


def test_the_corpus_is_the_same_everywhere() -> None:
    made = documents(1000, 20)
    assert made == documents(1000, 20)
    assert {len(document) for document in made} == {1000}
    assert len(set(made)) == 20


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.name)
def test_a_row_names_existing_contestants(row: Row) -> None:
    assert {label for line in row.lines for label in (line.us, line.them)} <= set(row.contestants)
    assert all(line.targets for line in row.lines)
    assert row.pairs >= 5 or row.only_full


def test_names_of_rows_are_unique() -> None:
    assert len({row.name for row in ALL_ROWS}) == len(ALL_ROWS)


def test_a_target_is_also_met_at_the_limit_of_the_link() -> None:
    line = Line("a", "b", (Target("messages_per_s", at_least=1.5, or_of="raw"),))
    runs = {"a": [run(96)] * 3, "b": [run(90)] * 3}
    assert compare(runs, line)[0].met is False, "the limit was not measured"
    assert compare({**runs, "raw": [run(100)] * 3}, line)[0].met is True
    assert compare({**runs, "raw": [run(110)] * 3}, line)[0].met is False


def test_a_load_of_seconds_counts_what_it_sent() -> None:
    load = Load({"seconds": 0.0, "size": 4, "corpus": "random"})
    load.seconds = 1e9
    sizes = load.sizes()
    assert [next(sizes) for _ in range(3)] == [load.chunk] * 3
    assert load.count == 3 * load.chunk
    assert len(set(load.values)) == load.chunk, "not compressible"


def test_faults_are_the_same_for_a_seed_and_about_as_many_as_they_should() -> None:
    faults = Faults(0.2, MIX)
    plan = faults.plan(3)
    assert plan == faults.plan(3) != faults.plan(4)
    assert 0.18 < sum(len(rule) > 1 for rule in plan) / len(plan) < 0.22
    assert {rule["api"] for rule in plan} == {"Produce"}
    assert len({str(rule) for rule in plan if len(rule) > 1}) == len(MIX) == 7


def test_the_faults_that_a_run_has_met_are_counted() -> None:
    proxy: Any = SimpleNamespace(plan=Plan())
    place = Place("", proxy=proxy, faults=Faults(0.5, (RESET,)))
    place.prepare(3)
    assert place.met(3) == {"faults": 0}
    rules = [proxy.plan.take("Produce", 1, list) for _ in range(100)]
    assert place.met(3) == {"faults": sum(rule is not None and bool(rule.reset) for rule in rules)}
    assert Place("").met(3) == {}
    assert compare({"a": [{"faults": 0}], "b": [{"faults": 0}]}, Line("a", "b", (Target("faults"),)))[0].met is None


def test_a_recovery_is_the_time_from_the_end_of_an_outage_to_the_next_acknowledgment() -> None:
    acknowledged = [1.0, 2.0, 2.5, 4.0]
    figures = recovery_figures(acknowledged, [0.5, 1.9, 2.2, 4.5])
    assert figures["outages"] == 2, "one was before the first acknowledgment, one after the last"
    assert (figures["recovery_p50_ms"], figures["recovery_p99_ms"]) == (pytest.approx(100), pytest.approx(300))
    assert recovery_figures([], [1.0]) == {}


def test_a_bound_of_our_own_figure_needs_no_ratio() -> None:
    runs = {"a": [{"recovery_p99_ms": 70.0}], "b": [{"recovery_p99_ms": 10.0}]}
    (met,) = compare(runs, Line("a", "b", (Target("recovery_p99_ms", ours_at_most=75),)))
    (missed,) = compare(runs, Line("a", "b", (Target("recovery_p99_ms", ours_at_most=60),)))
    assert (met.met, missed.met, bounds(met.target)) == (True, False, "ours ≤ 75")


@pytest.mark.parametrize("client", ["penstock", "confluent", "aiokafka"])
def test_at_defaults_a_client_is_given_nothing_but_the_address(client: str) -> None:
    settings_of = importlib.import_module(f"bench.contestants.{client}").settings_of
    assert settings_of({"defaults": True, "keys": 5, "linger_ms": 7}) == {}
    assert settings_of({"defaults": False})["linger_ms" if client != "confluent" else "linger.ms"] == 5


def test_confluent_kafka_is_made_idempotent_and_nothing_else() -> None:
    for row in (*DEFAULT_ROWS, *FAULT_ROWS, *NETWORK_ROWS):
        if IDEMPOTENT in row.contestants:
            assert settings_of(overlaid(row, IDEMPOTENT, quick=False)) == {"enable.idempotence": True}, row.name
