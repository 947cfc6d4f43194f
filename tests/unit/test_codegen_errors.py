"""The generator of the error classes: Kafka's table and our texts belong together."""

from __future__ import annotations

import ast

import pytest

from codegen import errors as generator
from codegen.error_texts import TEXTS, Text
from penstock import errors


def row(code: int, name: str, *classes: str) -> dict[str, object]:
    return {"code": code, "name": name, "classes": [*classes, "ApiException"]}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Text]:
    mine = {"ONE": Text("It is one."), "TWO": Text("It is two.", "Use one.")}
    monkeypatch.setattr(generator, "TEXTS", mine)
    return mine


def test_a_class_has_its_code_its_name_and_its_text(texts: dict[str, Text]) -> None:
    source = generator.render([row(2, "TWO", "TwoException", "RetriableException"), row(1, "ONE", "OneException")])
    assert source.index("class OneError(ApiError)") < source.index("class TwoError(RetriableError)")
    for part in ('"""It is two."""', "code = 2", 'name = "TWO"', "hint = 'Use one.'", "2: TwoError"):
        assert part in source
    ast.parse(source)


def test_a_code_without_a_text_and_a_text_without_a_code_are_refused(texts: dict[str, Text]) -> None:
    with pytest.raises(ValueError, match=r"missing \['THREE'\], not Kafka's \['TWO'\]"):
        generator.render([row(1, "ONE", "OneException"), row(3, "THREE", "ThreeException")])


def test_a_base_that_only_java_has_is_skipped(texts: dict[str, Text]) -> None:
    one, two = row(1, "ONE", "OneException", "JavaOnlyException"), row(2, "TWO", "TwoException", "OneException")
    source = generator.render([one, two])
    assert "class OneError(ApiError)" in source
    assert "class TwoError(OneError)" in source


def test_a_long_hint_is_the_same_in_parts() -> None:
    for text in TEXTS.values():
        if text.hint:
            assert ast.literal_eval(generator.literal(text.hint)) == text.hint


def test_classes_that_are_written_by_hand_exist_where_the_generator_imports_them() -> None:
    for name in (*generator.CATEGORIES, *generator.BY_HAND):
        assert issubclass(getattr(errors, name), errors.KafkaError)
