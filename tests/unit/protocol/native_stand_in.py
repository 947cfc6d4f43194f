"""Puts a `crc32c` where `penstock._native` has none yet; imported before `penstock.protocol.records`."""

import importlib
import sys
from types import ModuleType

import crc32c as other_crc32c

try:
    native = importlib.import_module("penstock._native")
except ImportError:
    native = ModuleType("penstock._native")
    sys.modules["penstock._native"] = native

if not hasattr(native, "crc32c"):
    native.crc32c = other_crc32c.crc32c  # type: ignore[attr-defined]
