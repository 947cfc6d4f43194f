"""The pytest plugin, in a nested pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

PLUGIN = "penstock.testing.pytest_plugin"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _penstock_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    # Loading it twice is an error, and whether pytest loads it automatically depends on how the package was installed.
    known = any(entry.value == PLUGIN for entry in metadata.entry_points(group="pytest11"))
    return pytester.runpytest_subprocess(*(() if known else ("-p", PLUGIN)), "-W", "error")


def test_the_plugin_is_registered_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"penstock": PLUGIN}


def test_each_test_has_its_own_topic(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_send(penstock_broker, penstock_topic, penstock_producer, number):
            assert penstock_producer.send(penstock_topic, b"v").result(timeout=10).offset == 0
            assert penstock_topic.startswith("test_send")
            assert penstock_broker.end_offsets(penstock_topic) == {0: 1}

        def test_the_broker_is_shared(penstock_broker):
            assert len(penstock_broker.topics()) == 2
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_an_unnoticed_failure_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_send(penstock_broker, penstock_topic, penstock_producer):
            penstock_broker.faults.add(api="Produce", error=10)
            penstock_producer.send(penstock_topic, b"v")
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*DeliveryError*"])


def test_importing_the_plugin_starts_no_thread_and_imports_little() -> None:
    code = (
        f"import sys, threading, {PLUGIN}\n"
        "assert not {'typer', 'rich', 'penstock.devbroker', 'penstock.cli'} & sys.modules.keys()\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
