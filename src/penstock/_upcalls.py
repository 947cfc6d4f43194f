"""Everything of Python that native code looks up by name: where each name is.

Native code imports this module only (``rust/python/src/runtime/upcalls.rs``, which lists the same names), so that a function
that moves is followed here. Each name is resolved when native code first needs it: asyncio, for one, is not imported before
`AsyncKafkaProducer` is.
"""

import sys
from importlib import import_module
from typing import Any, Final

WHERE: Final = {
    # errors that native code raises, and functions that make errors
    "InternalError": "penstock.errors:InternalError",
    "InvalidTopicError": "penstock.errors:InvalidTopicError",
    "KafkaError": "penstock.errors:KafkaError",
    "KafkaTimeoutError": "penstock.errors:KafkaTimeoutError",
    "ProducerClosedError": "penstock.errors:ProducerClosedError",
    "ProducerForkedError": "penstock.errors:ProducerForkedError",
    "RecordTooLargeError": "penstock.errors:RecordTooLargeError",
    "buffer_exhausted": "penstock.errors:buffer_exhausted",
    "bulk_error": "penstock.errors:bulk_error",
    "delivery_error": "penstock.errors:delivery_error",
    "error_for_code": "penstock.errors:error_for_code",
    "metadata_timeout": "penstock.errors:metadata_timeout",
    "not_buffered": "penstock.errors:not_buffered",
    # the boundary: a module, whose classes native code compares with its own when the first engine is made
    "boundary": "penstock.control.boundary",
    # waits and callbacks
    "report_callback_error": "penstock.facade.lifecycle:report_callback_error",
    "waiter": "penstock._hubs:waiter",
    # asyncio
    "CancelledError": "asyncio:CancelledError",
    "InvalidStateError": "asyncio:InvalidStateError",
    "copy_context": "contextvars:copy_context",
    "here": "penstock.facade.loops:here",
    "next_slice": "penstock.facade.loops:next_slice",
    "running_loop": "asyncio:_get_running_loop",
    "until_resolved": "penstock.aio:until_resolved",
    # Arrow data
    "levels_left_out": "penstock.facade.arrow_sources:levels_left_out",
    "prepare": "penstock.facade.arrow_sources:prepare",
    "reread": "penstock.facade.arrow_sources:reread",
    # the standard library's
    "UUID": "uuid:UUID",
    "array": "array:array",
    "modules": "sys:modules",
}


def asyncio_used() -> bool:
    """Whether `AsyncKafkaProducer` has been imported. Then its names for the interpreter's shutdown are looked up in advance."""
    return WHERE["here"].partition(":")[0] in sys.modules


def __getattr__(name: str) -> Any:
    where = WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = where.partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found
