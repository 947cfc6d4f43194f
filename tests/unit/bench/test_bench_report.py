"""The benchmark's stored results, its table, its chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.chart import bar, chart
from bench.figures import compare, derived
from bench.report import missing, report, summary, table
from bench.results import Results, code_version, fingerprint
from bench.row import CONFLUENT, US, Contestant, Line, Row, Target, throughput

ROW = Row(
    "100B",
    "100 B & a <future>",
    {
        US: Contestant("penstock:futures"),
        CONFLUENT: Contestant("confluent:callback"),
        "franz-go": Contestant("franz-go"),
    },
    (Line(US, CONFLUENT, throughput(4.0, 0.2)), Line(US, "franz-go", throughput(1.0, 0.7))),
)
KEY = {"code": "c", "machine": "m", "row": "r"}
MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "kernel": "Linux 6", "python": "CPython 3.11", "kafka": "Kafka"}


def run(rate: float, cpu_us: float) -> dict[str, Any]:
    measured = {
        "count": 1000,
        "seconds": 1000 / rate,
        "cpu_seconds": cpu_us / 1000,
        "failures": 0,
        "version": "1",
        "settings": {"acks": "all"},
    }
    return derived(measured)


def measured(**changes: Any) -> dict[str, Any]:
    runs = {US: [run(500, 1.0)] * 5, CONFLUENT: [run(100, 4.0)] * 5}
    return {
        "row": "100B",
        "key": KEY,
        "pairs": 5,
        "runs": runs,
        "not_run": {"franz-go": "no Go"},
        "failed": False,
        **changes,
    }


def test_a_stored_row_is_found_by_its_key_only(tmp_path: Path) -> None:
    file = tmp_path / "results" / "latest.json"
    Results(file).add(measured(), {"machine": MACHINE})
    again = Results(file)
    assert again.find("100B", KEY) == measured()
    assert again.find("100B", {**KEY, "code": "other"}) is None
    assert again.find("1000B", KEY) is None


def test_a_row_with_a_failed_contestant_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "latest.json"
    Results(file).add(measured(failed=True), {})
    assert Results(file).find("100B", KEY) is None


def test_each_row_is_written_at_once_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "latest.json"
    first = Results(file)
    first.add(measured(), {"machine": MACHINE})
    Results(file).add(measured(row="keyed"), {"machine": MACHINE})
    assert [done["row"] for done in json.loads(file.read_text())["rows"]] == ["100B", "keyed"]
    assert list(tmp_path.iterdir()) == [file], "no half-written file is left"


def test_a_file_without_results_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "latest.json"
    file.write_text("[1, 2]")
    with pytest.raises(SystemExit, match=r"latest.json is no result .* move it away"):
        Results(file)
    assert file.read_text() == "[1, 2]"


def test_the_version_of_the_code_follows_its_sources(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    source, other = tmp_path / "src" / "a.rs", tmp_path / "src" / "notes.md"
    source.write_text("fn a() {}")
    before = code_version(tmp_path, ["src"])
    other.write_text("no code")
    assert code_version(tmp_path, ["src"]) == before
    source.write_text("fn b() {}")
    assert code_version(tmp_path, ["src"]) != before


def test_a_fingerprint_follows_the_row() -> None:
    assert fingerprint([ROW, 5, False]) == fingerprint([ROW, 5, False])
    assert fingerprint([ROW, 5, False]) != fingerprint([ROW, 3, False])


def test_the_table_has_target_and_verdict_for_each_figure() -> None:
    lines = table([(ROW, measured())]).splitlines()
    assert "| messages/s | 500 | 100 | 5.00× (5.00–5.00) | ≥ 4.00× | met |" in lines[2]
    assert "| CPU µs/message | 1.00 | 4.00 | 0.25× (0.25–0.25) | ≤ 0.20× | **not met** |" in lines[3]
    assert len(lines) == 6


def test_a_contestant_that_did_not_run_has_a_line_and_a_reason_in_the_list() -> None:
    rows = [(ROW, measured(not_run={"franz-go": "no Go | at\nall"}))]
    assert "| 100B | franz-go | messages/s | | | | ≥ 1.00× | not run |" in table(rows)
    assert missing(rows) == "* not run: 100B against franz-go: franz-go: no Go | at all"
    assert summary([(ROW, measured())]) == "Targets met: 1, not met: 1; comparisons not run: 1"


def test_the_report_names_machine_versions_and_settings() -> None:
    text = report([(ROW, measured())], MACHINE, "abc123")
    assert text.startswith("2 cores of a CPU, 8 GiB, Linux 6, CPython 3.11; Kafka. Commit abc123.")
    assert "* **100B**: 100 B & a <future>" in text
    assert "* confluent 1 (100B): acks=all" in text
    assert max(map(len, text.splitlines())) <= 120


def test_longer_bars_are_better_for_every_figure() -> None:
    runs = {US: [run(500, 1.0)], CONFLUENT: [run(100, 4.0)]}
    rate, cost = compare(runs, Line(US, CONFLUENT, (*throughput(4.0, 0.2),)))
    assert bar(rate)[:3] == ("rate", pytest.approx(5.0), 4.0)
    assert bar(cost)[:3] == ("cost", pytest.approx(4.0), pytest.approx(5.0))


def test_the_chart_is_well_formed_and_shows_the_contestants_that_ran() -> None:
    drawn = chart([(ROW, measured())])
    root = ElementTree.fromstring(drawn)
    bars = [element for element in root.iter() if element.tag.endswith("rect")]
    assert len(bars) == 2, "one for each figure against confluent-kafka; franz-go did not run"
    assert "prefers-color-scheme:dark" in drawn
    assert "100 B &amp; a &lt;future&gt;" in drawn


def test_a_chart_without_rows_is_still_a_chart() -> None:
    assert ElementTree.fromstring(chart([])).tag.endswith("svg")


def test_a_line_without_bounds_has_no_verdict() -> None:
    row = Row("limit", "of the sink", ROW.contestants, (Line(US, CONFLUENT, (Target("messages_per_s"),)),))
    assert table([(row, measured())]).splitlines()[2].endswith("| 5.00× (5.00–5.00) | – |  |")
