"""Reading the output of callgrind."""

from __future__ import annotations

from collections import Counter

from bench.instructions import compared, parse, per_message, sort_threads

CALLGRIND = """\
version: 1
events: Ir
fl=(1) send.rs
fn=(1) send
12 100
+3 20
cfn=(2) append
calls=5 40
* 900
fn=(2)
40 900
fn=(3) penstock_core::engine::Engine<T>::run_once
1 7
totals: 1027
"""


def test_a_function_counts_its_own_instructions() -> None:
    assert parse(CALLGRIND.splitlines()) == {
        "send": 120,
        "append": 900,
        "penstock_core::engine::Engine<T>::run_once": 7,
    }


def test_the_thread_that_runs_the_engine_is_the_io_thread() -> None:
    application, engine, control = (
        Counter(send=5),
        Counter({"core::engine::Engine<T>::run_once": 3}),
        Counter(exchange=2),
    )
    counted = sort_threads([application, control, engine])
    assert (counted.application, counted.io, counted.other) == (application, engine, control)


def test_instructions_common_to_both_runs_cancel() -> None:
    start = {"import": 10_000}
    assert per_message(Counter(start | {"send": 200}), Counter(start | {"send": 400}), 100) == {
        "import": 0,
        "send": 2.0,
    }


def test_only_more_than_the_tolerance_is_a_regression() -> None:
    kept = {"short form": {"application": 1000.0, "total": 1000.0}, "keyed": {"application": 1000.0, "total": 1000.0}}
    now = {
        "short form": {"application": 1049.0, "total": 1149.0},
        "keyed": {"application": 1051.0, "total": 1051.0},
        "new": {"application": 5.0, "total": 5.0},
    }
    tolerance = {"application": 0.05, "total": 0.15}
    assert compared(kept, now, tolerance) == [
        "keyed, application: 1,051 instructions per message, +5.1% against the 1,000 kept"
    ]
    now["short form"] = {"application": 900.0, "total": 1151.0}
    assert [line.split(":")[0] for line in compared(kept, now, tolerance)] == [
        "short form, total",
        "keyed, application",
    ]
