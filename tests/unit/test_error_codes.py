"""Native code has the same error codes as Kafka's table and the control plane's."""

import re
from pathlib import Path

import pytest

from penstock import errors
from penstock._native import SteppedEngine
from penstock.control.error_table import PRODUCE

SOURCE = Path(__file__).parents[2] / "rust/core/src/error_code.rs"
CONSTANTS = [
    (name, int(code))
    for name, code in re.findall(r"^pub const (\w+): i16 = (-?\d+);$", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
]
LAST = max(errors.ERROR_BY_CODE)
CODES = [code for code in range(-2, LAST + 3) if code != 0]


@pytest.mark.parametrize(("name", "code"), CONSTANTS)
def test_a_constant_has_kafkas_name_and_number(name: str, code: int) -> None:
    assert errors.error_name(code) == name


def test_the_last_code_is_kafkas_last() -> None:
    assert len(CONSTANTS) > 5
    assert dict(CONSTANTS)["CONTROLLER_ID_NOT_REGISTERED"] == LAST


@pytest.mark.parametrize("base_offset", [-1, 0, 35])
def test_native_code_and_control_plane_agree_about_the_append_for_every_code(base_offset: int) -> None:
    native = {code: SteppedEngine.fate_of_answer(code, base_offset) for code in [*CODES, 9_999, -9_999]}
    table = {code: PRODUCE.fate(code, base_offset) for code in native}
    assert native == table
    assert {code for code in native if native[code] == "unknown"} >= {-1, 7, 13, 20, 56, LAST + 1}
