"""`penstock produce` with Parquet and Arrow files of pandas: the unnamed index is not a column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from penstock.cli import main
from penstock.devbroker import DevCluster


def _parquet(frame: Any, path: Path) -> None:
    frame.to_parquet(path)


def _feather(frame: Any, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather

    feather.write_feather(pa.Table.from_pandas(frame), path)


@pytest.mark.parametrize(("format", "fill"), [("parquet", _parquet), ("arrow", _feather)])
def test_a_named_index_is_sent_and_an_unnamed_one_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], format: str, fill: Callable[[Any, Path], None]
) -> None:
    frame = pd.DataFrame({"v": ["a", "b"]}, index=[3, 5])
    fill(frame, tmp_path / "unnamed")
    fill(frame.rename_axis("n"), tmp_path / "named")
    with DevCluster.running(auto_create_topics=False) as cluster:
        cluster.create_topic("t", 1)
        broker = ["-b", cluster.bootstrap_servers, "-t", "t"]
        assert main(["produce", str(tmp_path / "unnamed"), "--format", format, *broker]) == 0
        assert main(["produce", str(tmp_path / "named"), "--format", format, "--key", "n", "-H", "a=1", *broker]) == 0
        capfd.readouterr()
        assert main(["tail", *broker, "-o", "beginning", "-e", "--json"]) == 0
    found = [json.loads(line)["value"] for line in capfd.readouterr().out.splitlines()]
    assert found == ['{"v":"a"}', '{"v":"b"}', '{"v":"a","n":3}', '{"v":"b","n":5}']
