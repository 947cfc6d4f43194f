"""The handshake of a connection: the requests between TCP (or TLS) and the first request of its purpose. Sans-IO.

A handshake is a sequence of steps. A step begins with the `Session` of the step before it, and takes the answers to its own
requests. Each time it returns one of:

| progress | meaning |
|---|---|
| `SendRequest` | send this request; the step takes the answer |
| `Passed` | the step is done; after the last step the connection is open |
| `Failed` | close the connection |

ApiVersions is the first step. Authentication (SASL) is a step behind it, and re-authentication (KIP-368) is a handshake of
that step alone on an open connection.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from penstock import errors
from penstock.control import error_table
from penstock.control.boundary import Trouble
from penstock.control.error_table import VersionsOutcome
from penstock.control.requests import API_VERSIONS, RequestKind
from penstock.protocol import versions
from penstock.protocol.message import Api, Request
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

SOFTWARE_NAME: Final = "penstock"
_UNSUPPORTED_VERSION: Final = 35


class Session(NamedTuple):
    """The result of a handshake."""

    versions: Mapping[int, tuple[int, int]] = MappingProxyType({})
    """API key → lowest and highest version that the broker offers."""

    def negotiate(self, api: Api) -> int:
        """The version of `api` to use with this broker; raises `NoCommonVersionError`."""
        low, high = self.versions.get(api.key, (0, -1))
        version = versions.negotiate(api, low, high)
        # Only a broker under development offers an unstable version.
        return version - 1 if api.latest_version_unstable and version == api.max_version else version


class SendRequest(NamedTuple):
    """Send this request; the step takes the answer."""

    kind: RequestKind[Any]
    message: Request
    version: int


class Passed(NamedTuple):
    """The step is done."""

    session: Session


class Failed(NamedTuple):
    """The connection cannot be used."""

    trouble: Trouble
    wrong_node: bool = False  # another cluster or node is at this address: the bootstrap addresses are needed


Progress: TypeAlias = SendRequest | Passed | Failed


class Step(Protocol):
    """A part of a handshake."""

    def begin(self, session: Session) -> Progress:
        """The first request, or the end at once."""
        ...

    def answered(self, response: Any, version: int) -> Progress:
        """Take the answer to the last `SendRequest`, in the version of the request."""
        ...


class Handshake:
    """The steps of one connection, one after the other."""

    def __init__(self, steps: Iterable[Step], session: Session = Session()) -> None:  # noqa: B008 (immutable)
        """No request is sent before `begin`. `session`: of an open connection, for re-authentication."""
        self._steps = iter(steps)
        self._step: Step | None = None
        self._session = session

    def begin(self) -> Progress:
        """The first request."""
        return self._follow(Passed(self._session))

    def answered(self, response: Any, version: int) -> Progress:
        """Take the answer to the last `SendRequest`."""
        if self._step is None:
            raise RuntimeError("a handshake is answered before it has begun, or after its end")
        return self._follow(self._step.answered(response, version))

    def _follow(self, progress: Progress) -> Progress:
        while isinstance(progress, Passed):
            self._step = next(self._steps, None)
            if self._step is None:
                return progress
            progress = self._step.begin(progress.session)
        return progress


class ApiVersionsStep(NamedTuple):
    """Request the versions of the broker, and let it check that it is the intended one.

    The newest version is tried first. A broker that lacks it answers in version 0, with its own versions (KIP-511).
    """

    software_version: str
    needs: tuple[Api, ...]  # APIs that must have a common version
    cluster_id: str | None = None  # None: the broker is not to check cluster and node (metadata.cluster.check.enable)
    node_id: int = -1

    def begin(self, session: Session) -> Progress:
        """Send the request in the newest version."""
        return self._request(index.API_VERSIONS.max_version)

    def answered(self, response: ApiVersionsResponse, version: int) -> Progress:
        """Take the broker's versions, or send the request again in an older version."""
        outcome = error_table.API_VERSIONS.outcome(response.error_code)
        if outcome is VersionsOutcome.DOWNGRADE and version > 0:
            offered = {key.api_key: key.max_version for key in response.api_keys}
            return self._request(max(0, min(offered.get(index.API_VERSIONS.key, 0), version - 1)))
        if outcome is VersionsOutcome.REBOOTSTRAP:
            message = "another cluster or node is at this address (metadata.cluster.check.enable)"
            return Failed(Trouble(response.error_code, message), wrong_node=True)
        if outcome is not VersionsOutcome.OPEN:
            message = f"ApiVersions was answered with {errors.error_name(response.error_code)}"
            return Failed(Trouble(response.error_code, message))
        session = Session({key.api_key: (key.min_version, key.max_version) for key in response.api_keys})
        try:
            for api in self.needs:
                session.negotiate(api)
        except versions.NoCommonVersionError as error:
            return Failed(Trouble(_UNSUPPORTED_VERSION, str(error)))
        return Passed(session)

    def _request(self, version: int) -> SendRequest:
        request = ApiVersionsRequest(
            client_software_name=SOFTWARE_NAME,
            client_software_version=self.software_version,
            cluster_id=self.cluster_id,
            node_id=self.node_id,
        )
        return SendRequest(API_VERSIONS, request, version)
