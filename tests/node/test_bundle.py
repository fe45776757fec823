"""A node takes what the authority of its party puts into its bundle, while it runs."""

import asyncio
from pathlib import Path

from exchange import files
from exchange.node.app import App
from keys import founding
from keys.documents import Document
from tests.node.cluster import NODES, Cluster, found, now_ms

KR, _ = NODES


def next_status(cluster: Cluster, version: int) -> Document:
    world = cluster.world
    return founding.status(
        world.parties["kr"],
        lineage=world.lineage,
        agreement=world.agreement,
        roster=world.rosters["kr"],
        version=version,
        now_ms=now_ms(),
    )


async def held(app: App, version: int) -> None:
    while (status := app.trust.status("kr")) is None or status.version < version:
        await asyncio.sleep(0.05)


async def test_a_new_bundle_is_taken_without_a_restart(tmp_path: Path) -> None:
    cluster = found(tmp_path)
    async with asyncio.timeout(30), cluster.app(KR).serving() as app:
        bundle = app.directory / files.BUNDLE
        files.save_bundle(bundle, [*cluster.world.documents, next_status(cluster, 5)])
        await held(app, 5)


async def test_a_broken_bundle_stops_nothing(tmp_path: Path) -> None:
    cluster = found(tmp_path)
    async with asyncio.timeout(30), cluster.app(KR).serving() as app:
        bundle = app.directory / files.BUNDLE
        good = bundle.read_bytes()
        bundle.write_bytes(b"\xff" * 100)
        await asyncio.sleep(1.2)
        bundle.unlink()
        await asyncio.sleep(1.2)
        bundle.write_bytes(good)
        files.save_bundle(bundle, [next_status(cluster, 7)])
        await held(app, 7)
