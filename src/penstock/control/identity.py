"""The producer's identity: how its id and epoch are obtained, raised and replaced (idempotent, not transactional).

`TRANSITIONS` is the table of states. The epoch may be raised locally, because no other client has a non-transactional
producer id, and a broker accepts a higher epoch with sequence 0 (KIP-360; Java:
`TransactionManager.bumpIdempotentProducerEpoch`).
"""

from collections.abc import Mapping
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from penstock import errors
from penstock.config.settings import ProducerSettings
from penstock.control.backoff import Backoff
from penstock.control.delivery import Identity
from penstock.control.error_table import INIT_PRODUCER_ID, IdentityOutcome
from penstock.control.states import StateMachine
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest

State: TypeAlias = Literal["off", "needed", "requested", "held", "failed"]
Event: TypeAlias = Literal["request", "answer", "retry", "fail", "renew"]

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    # The backoff is over: InitProducerId is sent. In state "off" (no idempotence) none is needed.
    ("needed", "request"): "requested",
    # An identity came: `SetIdentity`, and the lanes that waited are decided.
    ("requested", "answer"): "held",
    # A retriable error, a lost connection, or no permission yet (`FailBuffered`; as in Java it may be given later): backoff.
    ("requested", "retry"): "needed",
    # Any other error: `FailProducer`.
    ("requested", "fail"): "failed",
    # A lane needs a new epoch, and 32767 is used up. Lanes wait for a new producer id.
    ("held", "renew"): "needed",
}

MAX_EPOCH: Final = 32767
_MAX_INT32: Final = 2**31 - 1


class Refused(NamedTuple):
    """No producer id for the records that are buffered now; perhaps for later ones."""

    code: int
    message: str


class Fatal(NamedTuple):
    """A fatal error of the producer."""

    code: int
    message: str


class IdentityManager:
    """See the module. Times are milliseconds on the engine's clock."""

    def __init__(self, settings: ProducerSettings, random: Random) -> None:
        """Begin without an identity; one is needed at once if idempotence is enabled."""
        initial: State = "needed" if settings.enable_idempotence else "off"
        self._machine: StateMachine[State, Event] = StateMachine("identity", initial, TRANSITIONS)
        self.current: Identity | None = None
        self._backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms)
        self._random = random
        self._failures = 0
        self._not_before_ms = 0.0

    @property
    def state(self) -> State:
        """One of the states in `TRANSITIONS`."""
        return self._machine.state

    def due_ms(self, now_ms: float) -> float | None:
        """From when on an InitProducerId request may be sent; None while none is needed."""
        return self._not_before_ms if self.state == "needed" else None

    def request(self, now_ms: float) -> InitProducerIdRequest:
        """The request, which is sent now."""
        self._machine.on("request")
        return InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_MAX_INT32)

    def lost(self, now_ms: float) -> None:
        """The request got no answer."""
        if self.state == "requested":
            self._retry(now_ms)

    def answered(
        self, error_code: int, producer_id: int, epoch: int, now_ms: float
    ) -> Identity | Refused | Fatal | None:
        """Take the answer: the new identity, or why there is none; None if another attempt follows, and nothing else."""
        if self.state != "requested":
            return None
        outcome = INIT_PRODUCER_ID.outcome(error_code)
        if outcome is IdentityOutcome.HELD and producer_id >= 0 and epoch >= 0:
            self._machine.on("answer")
            self._failures = 0
            self.current = Identity(producer_id, epoch)
            return self.current
        message = f"no producer id could be obtained: {errors.error_name(error_code)}"
        if outcome is IdentityOutcome.FATAL:
            self._machine.on("fail")
            return Fatal(error_code, message)
        self._retry(now_ms)
        return Refused(error_code, message) if outcome is IdentityOutcome.REFUSED else None

    def next_identity(self) -> Identity | None:
        """The identity for a lane that needs a new epoch; None if a new producer id must be obtained first."""
        if self.state != "held" or self.current is None or self.current.epoch >= MAX_EPOCH:
            return None
        return Identity(self.current.producer_id, self.current.epoch + 1)

    def adopt(self, identity: Identity) -> None:
        """A lane has adopted `next_identity`: all lanes adopt it from now on."""
        self.current = identity

    def renew(self, now_ms: float) -> None:
        """The epochs of this producer id are used up: obtain another id."""
        if self.state == "held":
            self._machine.on("renew")
            self._not_before_ms = now_ms

    def _retry(self, now_ms: float) -> None:
        self._machine.on("retry")
        self._not_before_ms = now_ms + self._backoff.delay_ms(self._failures, self._random)
        self._failures += 1
