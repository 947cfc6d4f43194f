"""JSON text that compresses like event data: orders with ids, names, amounts, times and a few words.

Generated from a fixed seed, the same for every client and on every machine.
"""

from __future__ import annotations

import json
from random import Random

DOCUMENTS = 2000
"""More bytes than any client's batch holds, so that no batch sees a document twice."""

_CITIES = [
    "Amsterdam",
    "Bergen",
    "Cork",
    "Dublin",
    "Espoo",
    "Florence",
    "Ghent",
    "Izmir",
    "Kyoto",
    "Lima",
    "Oslo",
    "Porto",
]
_TEXT = """
please leave the parcel with a neighbour or at the back door and ring twice because the bell is hard to hear
gift wrapped fragile keep upright do not bend second attempt after six returned refund partial exchange size colour
blue green large small cotton steel wooden box of twelve morning delivery only signature required
"""
_WORDS = _TEXT.split()


def documents(size: int, count: int = DOCUMENTS) -> list[bytes]:
    """So many JSON objects of exactly `size` bytes each."""
    random = Random(4)
    return [_document(random, number, size) for number in range(count)]


def _document(random: Random, number: int, size: int) -> bytes:
    order = {
        "order_id": f"{random.getrandbits(128):032x}",
        "sequence": number,
        "placed_at": f"2025-{random.randint(1, 12):02}-{random.randint(1, 28):02}T{random.randint(0, 23):02}:"
        f"{random.randint(0, 59):02}:{random.randint(0, 59):02}.{random.randint(0, 999):03}Z",
        "customer": {
            "id": random.randint(1, 10**7),
            "city": random.choice(_CITIES),
            "segment": random.choice(["new", "regular", "business"]),
            "loyalty": round(random.random(), 3),
        },
        "currency": random.choice(["EUR", "EUR", "EUR", "USD", "JPY"]),
        "lines": [
            {
                "sku": f"{random.choice('ABCD')}-{random.randint(1000, 9999)}",
                "quantity": random.randint(1, 5),
                "price": round(random.uniform(1, 500), 2),
                "discounted": random.random() < 0.2,
            }
            for _ in range(random.randint(2, 6))
        ],
        "status": random.choice(["placed", "paid", "packed", "sent", "delivered"]),
    }
    text = json.dumps(order, ensure_ascii=False).encode()[:-1] + b', "note": "'
    while len(text) < size:
        text += random.choice(_WORDS).encode() + b" "
    return text[: size - 2] + b'"}'
