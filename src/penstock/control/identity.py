"""The producer's identity: how its id and epoch are obtained, raised and replaced (idempotent, not transactional).

| state | event | next state | what follows |
|---|---|---|---|
| off | | off | idempotence is disabled |
| needed | a request may leave (backoff is over) | requested | InitProducerId goes out |
| requested | answer 0 | held | `SetIdentity`; lanes that waited are decided |
| requested | retriable error, or the connection was lost | needed | after backoff |
| requested | not authorized | needed | `FailBuffered`; after backoff, since permission may be given (Java: the same) |
| requested | any other error | failed | `FailProducer` |
| held | a lane needs a new epoch | held | epoch + 1, decided here without asking (KIP-360), `SetIdentity` |
| held | the same, and the epoch is 32767 | needed | a new producer id; lanes that need one wait for it |
| failed | | failed | |

Why the epoch may be raised locally: nobody else knows a non-transactional producer id, and a broker accepts a higher
epoch with sequence 0 (Java: `TransactionManager.bumpIdempotentProducerEpoch`).
"""

from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from penstock import errors
from penstock.control.delivery import Identity
from penstock.control.error_table import INIT_PRODUCER_ID, IdentityOutcome
from penstock.control.settings import Backoff, ControlSettings

State: TypeAlias = Literal["off", "needed", "requested", "held", "failed"]

MAX_EPOCH: Final = 32767


class Refused(NamedTuple):
    """No producer id for what is buffered now; perhaps for what comes later."""

    code: int
    message: str


class Fatal(NamedTuple):
    """The producer cannot go on."""

    code: int
    message: str


class IdentityManager:
    """The state machine in the table above. Times are milliseconds on the engine's clock."""

    def __init__(self, settings: ControlSettings, random: Random) -> None:
        """Begin without an identity; one is needed at once if idempotence is enabled."""
        self.state: State = "needed" if settings.enable_idempotence else "off"
        self.current: Identity | None = None
        self._backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms)
        self._random = random
        self._failures = 0
        self._not_before_ms = 0.0

    def due_ms(self) -> float | None:
        """From when on an InitProducerId request may leave; None while none is needed."""
        return self._not_before_ms if self.state == "needed" else None

    def requested(self) -> None:
        """An InitProducerId request has left."""
        self.state = "requested"

    def lost(self, now_ms: float) -> None:
        """The request got no answer."""
        if self.state == "requested":
            self._retry(now_ms)

    def answered(
        self, error_code: int, producer_id: int, epoch: int, now_ms: float
    ) -> Identity | Refused | Fatal | None:
        """The answer to InitProducerId: the new identity, or why there is none; None for another attempt alone."""
        if self.state != "requested":
            return None
        outcome = INIT_PRODUCER_ID.outcome(error_code)
        if outcome is IdentityOutcome.HELD and producer_id >= 0 and epoch >= 0:
            self.state = "held"
            self._failures = 0
            self.current = Identity(producer_id, epoch)
            return self.current
        message = f"no producer id could be obtained: {errors.error_name(error_code)}"
        if outcome is IdentityOutcome.FATAL:
            self.state = "failed"
            return Fatal(error_code, message)
        self._retry(now_ms)
        return Refused(error_code, message) if outcome is IdentityOutcome.REFUSED else None

    def next_identity(self) -> Identity | None:
        """What a lane would adopt if it needed a new epoch now; None if a new producer id must be obtained first."""
        if self.state != "held" or self.current is None or self.current.epoch >= MAX_EPOCH:
            return None
        return Identity(self.current.producer_id, self.current.epoch + 1)

    def adopt(self, identity: Identity) -> None:
        """A lane has adopted what `next_identity` offered: it is the target of all lanes from now on."""
        self.current = identity

    def renew(self, now_ms: float) -> None:
        """The epochs of this producer id are used up: obtain another id."""
        if self.state == "held":
            self.state = "needed"
            self._not_before_ms = now_ms

    def _retry(self, now_ms: float) -> None:
        self.state = "needed"
        self._not_before_ms = now_ms + self._backoff.delay_ms(self._failures, self._random)
        self._failures += 1
