"""The steps before a connection is open, one answer at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from penstock.control.boundary import Trouble
from penstock.control.handshake import ApiVersionsStep, Failed, Handshake, Passed, Progress, SendRequest, Session
from penstock.control.requests import API_VERSIONS
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.versions import NoCommonVersionError

STEP = ApiVersionsStep("1.0", needs=(index.METADATA,))


def offers(*keys: tuple[int, int, int], error: int = 0) -> ApiVersionsResponse:
    """Key, lowest and highest version of each API."""
    return ApiVersionsResponse(
        error_code=error,
        api_keys=tuple(ApiVersion(api_key=key, min_version=low, max_version=high) for key, low, high in keys),
    )


def asked_version(progress: Progress) -> int:
    assert isinstance(progress, SendRequest)
    return progress.version


# --------------------------------------------------------------------------------------------------------- ApiVersions


def test_the_handshake_begins_in_the_newest_version_and_names_the_client() -> None:
    progress = STEP.begin(Session())
    assert isinstance(progress, SendRequest)
    assert (progress.kind, progress.version) == (API_VERSIONS, index.API_VERSIONS.max_version)
    request = progress.message
    assert isinstance(request, ApiVersionsRequest)
    assert (request.client_software_name, request.client_software_version) == ("penstock", "1.0")
    assert (request.cluster_id, request.node_id) == (None, -1)


def test_the_cluster_and_node_to_check_are_in_the_request() -> None:
    progress = STEP._replace(cluster_id="c", node_id=2).begin(Session())
    assert isinstance(progress, SendRequest)
    assert isinstance(progress.message, ApiVersionsRequest)
    assert (progress.message.cluster_id, progress.message.node_id) == ("c", 2)


def test_the_versions_of_the_broker_are_the_session() -> None:
    assert STEP.answered(offers((3, 0, 9), (0, 3, 7)), 5) == Passed(Session({3: (0, 9), 0: (3, 7)}))


@pytest.mark.parametrize(("offered", "version", "next_version"), [(2, 5, 2), (5, 5, 4), (9, 1, 0), (-1, 3, 0)])
def test_an_unsupported_version_is_followed_by_one_that_the_broker_has(
    offered: int, version: int, next_version: int
) -> None:
    """KIP-511; each attempt is at least one version lower, so that there is an end."""
    assert asked_version(STEP.answered(offers((18, 0, offered), error=35), version)) == next_version


def test_a_broker_that_names_no_versions_gets_version_0() -> None:
    assert asked_version(STEP.answered(offers(error=35), 5)) == 0


@pytest.mark.parametrize("code", [35, 42, 58, -1, 9_999])
def test_other_errors_fail_with_their_code(code: int) -> None:
    progress = STEP.answered(offers(error=code), 0)
    assert isinstance(progress, Failed)
    assert progress.trouble.code == code
    assert "ApiVersions" in progress.trouble.message
    assert not progress.wrong_node


def test_another_node_at_this_address_causes_a_rebootstrap() -> None:
    progress = STEP.answered(offers(error=129), 5)
    assert isinstance(progress, Failed)
    assert progress.wrong_node


@pytest.mark.parametrize("keys", [[], [(3, 90, 91)]])
def test_a_needed_api_without_a_common_version_fails(keys: list[tuple[int, int, int]]) -> None:
    progress = STEP.answered(offers(*keys), 5)
    assert isinstance(progress, Failed)
    assert progress.trouble.code == 35
    assert "Metadata" in progress.trouble.message


def test_only_needed_apis_are_checked() -> None:
    progress = ApiVersionsStep("1.0", needs=()).answered(offers(), 5)
    assert isinstance(progress, Passed)
    with pytest.raises(NoCommonVersionError):
        progress.session.negotiate(index.PRODUCE)


# ----------------------------------------------------------------------------------------------------- several steps


class Password(NamedTuple):
    """A step as an authentication will be: it uses a version that the step before has found."""

    def begin(self, session: Session) -> Progress:
        version = session.negotiate(index.SASL_AUTHENTICATE)
        return SendRequest(API_VERSIONS, ApiVersionsRequest(), version)

    def answered(self, response: Any, version: int) -> Progress:
        if response.error_code:
            return Failed(Trouble(response.error_code, "wrong password"))
        return Passed(Session({1: (0, 1)}))


SASL_OFFER = offers((3, 0, 13), (36, 0, 1))


def test_a_step_begins_with_the_session_of_the_one_before() -> None:
    handshake = Handshake((STEP, Password()))
    assert asked_version(handshake.begin()) == 5
    assert asked_version(handshake.answered(SASL_OFFER, 5)) == 1
    assert handshake.answered(offers(), 1) == Passed(Session({1: (0, 1)}))


def test_the_first_failure_ends_the_handshake() -> None:
    handshake = Handshake((STEP, Password()))
    handshake.begin()
    handshake.answered(SASL_OFFER, 5)
    assert handshake.answered(offers(error=58), 1) == Failed(Trouble(58, "wrong password"))


def test_an_open_connection_can_repeat_one_step() -> None:
    """Re-authentication (KIP-368)."""
    again = Handshake((Password(),), Session({36: (0, 0)}))
    assert asked_version(again.begin()) == 0


def test_a_handshake_without_steps_passes_at_once() -> None:
    assert Handshake(()).begin() == Passed(Session())


def test_an_answer_before_or_after_the_handshake_is_a_bug() -> None:
    handshake = Handshake((STEP,))
    with pytest.raises(RuntimeError):
        handshake.answered(offers(), 5)
    handshake.begin()
    assert isinstance(handshake.answered(offers((3, 0, 9)), 5), Passed)
    with pytest.raises(RuntimeError):
        handshake.answered(offers((3, 0, 9)), 5)
