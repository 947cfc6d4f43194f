"""Why something does not work at present, with Kafka's error code."""

from typing import NamedTuple


class Trouble(NamedTuple):
    """A cause that is reported to users. ``Trouble()`` is false: nothing is wrong.

    ``code`` is Kafka's error code, 0 if no broker has given one.
    """

    code: int = 0
    message: str = ""  # human-readable

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.code or self.message)
