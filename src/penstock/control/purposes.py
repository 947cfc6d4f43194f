"""The purposes of connections. All differences between them are fields here: no other file tests which purpose it has."""

from typing import NamedTuple

from penstock.config.settings import ProducerSettings
from penstock.protocol.message import Api
from penstock.protocol.messages import index


class Purpose(NamedTuple):
    """The traffic of a connection, and the effects of its states."""

    name: str
    needs: tuple[Api, ...]
    """APIs without which the connection is useless: the handshake fails if there is no common version."""
    carries_records: bool
    """After the handshake it is announced to the data plane (`Ready`). It is opened when the data plane requests it, at the
    address that metadata has for its broker, and its errors become the status of that broker."""
    reopened_by_engine: bool
    """After it closed it is needed only if the data plane has records for it. Otherwise the part that opened it decides."""
    loss_refreshes_metadata: bool
    """After an unexpected end metadata is requested: leaders may have moved (Java: `handleServerDisconnect`)."""


class Purposes(NamedTuple):
    """All of them. Transactions will add their coordinators."""

    control: Purpose
    data: Purpose


def purposes(settings: ProducerSettings) -> Purposes:
    """The purposes of a producer with these settings."""
    idempotent = (index.INIT_PRODUCER_ID,) if settings.enable_idempotence else ()
    return Purposes(
        control=Purpose(
            "control",
            needs=(index.METADATA, *idempotent),
            carries_records=False,
            reopened_by_engine=False,
            loss_refreshes_metadata=False,
        ),
        data=Purpose(
            "data",
            needs=(index.PRODUCE,),
            carries_records=True,
            reopened_by_engine=True,
            loss_refreshes_metadata=True,
        ),
    )
