"""The desk: publish and subscribe from Python.

async with Desk.open("desk.toml") as desk:
await desk.publish("minerals", report)
async for delivery in desk.subscribe("minerals"):
print(delivery.report.summary, delivery.sender, delivery.receipt)
"""

from exchange.desk.desk import Desk, init
from exchange.desk.events import (
    Conflict,
    Delivery,
    DiskFailed,
    Event,
    Gap,
    NewLog,
    Overdue,
    Refused,
    SealedAgain,
    Silent,
    Split,
    Stale,
    Unconfirmed,
    Undelivered,
    Unopened,
)
from exchange.desk.settings import DeskSettings
from exchange.desk.sync import SyncDesk

__all__ = [
    "Conflict",
    "Delivery",
    "Desk",
    "DeskSettings",
    "DiskFailed",
    "Event",
    "Gap",
    "NewLog",
    "Overdue",
    "Refused",
    "SealedAgain",
    "Silent",
    "Split",
    "Stale",
    "SyncDesk",
    "Unconfirmed",
    "Undelivered",
    "Unopened",
    "init",
]
