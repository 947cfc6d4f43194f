"""Kafka's own list of error codes checks ours: code, name and the kind of Java's exception."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import kafka_artifacts

from penstock import errors

SOURCE = Path(__file__).resolve().parent / "ErrorCodes.java"


def test_every_code_has_java_s_name_and_kind() -> None:
    command = [kafka_artifacts.java(), "-cp", kafka_artifacts.classpath(), str(SOURCE)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=120)
    theirs = {code: (name, retriable, refresh) for code, name, retriable, refresh in json.loads(answer.stdout)}
    ours = {
        code: (errors.error_name(code), errors.is_retriable(code), errors.needs_refresh(code))
        for code in (0, *errors.ERROR_BY_CODE)
    }
    assert ours == theirs
