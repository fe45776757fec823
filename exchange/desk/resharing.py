"""Passing on to a colleague what was said before it could read: admitted late, or without a key card (PROTOCOL 10.1)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from exchange import policy, reshare
from exchange.desk.holdings import Holdings
from exchange.desk.sealing import Sealing
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.errors import TocsinError, UsageError
from keys.trust import party_of, week_of
from keys.v1 import documents_pb2 as docs

PROOF_BYTES: Final = 400
MAX_BYTES: Final = 600_000
"""Of what one re-share passes on; with each item go its salt and a proof of at most PROOF_BYTES."""


class Held(NamedTuple):
    """An envelope of this desk's archive, sent or received."""

    id: bytes
    header: env.Header


class PassedOn(NamedTuple):
    """How many envelopes and items were passed on; `left` are markings at which nothing could be, and why."""

    envelopes: int
    items: int
    left: tuple[str, ...]


class Resharing:
    """Passes on what the archive holds.

    Args:
        holdings: What the desk holds.
        sealing: Seals it.
    """

    def __init__(self, holdings: Holdings, sealing: Sealing) -> None:
        self._own, self._sealing = holdings, sealing

    async def pass_on(self, desk: str, channel: str, *, since_ms: int = 0) -> PassedOn:
        """Seal for a colleague what was said on a channel and it could not open, as far as it may read there today.

        Args:
            desk: A desk of the own party.
            channel: A channel of the agreement.
            since_ms: Nothing that was sealed before, ms UTC.

        Raises:
            UsageError: No such colleague, or it has no key card.
        """
        chosen, left = await self._own.workers.run(self._chosen, desk, channel, since_ms)
        envelopes = items = 0
        for answers, marking, said in chosen:
            named = policy.MARKING_NAMES[marking]
            await self._sealing.publish_all(channel, said, marking=named, to=(desk,), answers=answers)
            envelopes += len({one.reshare.envelope for one in said})
            items += sum(len(one.reshare.items) for one in said)
        return PassedOn(envelopes, items, tuple(left))

    def _chosen(
        self, desk: str, channel: str, since_ms: int
    ) -> tuple[list[tuple[bytes, docs.Marking, list[rep.Item]]], list[str]]:
        """By marking: the envelope that is answered, and what is said; and what cannot be said, in words."""
        self._require_colleague(desk)
        held = list(self._held(channel))
        chosen, left = [], []
        for marking in sorted({one.header.marking for one in held} - {docs.MARKING_RED}):
            same = [one for one in held if one.header.marking == marking]
            missed = [one for one in same if self._missed(one.header, desk) and one.header.create_time_ms >= since_ms]
            if not missed:
                continue
            # An answer goes to members of the envelope it names: so both ends see that the colleague may read there.
            answered = [one for one in same if self._is_member(one.header, desk)]
            if not answered:
                left.append(
                    f"{policy.MARKING_NAMES[marking]}: nothing was said at it yet that {desk} is a reader of; say "
                    f"something on {channel}, or wait for the next heartbeat, and pass on then"
                )
                continue
            newest = max(answered, key=lambda one: one.header.create_time_ms)
            said = [item for one in sorted(missed, key=_time) for item in self._items(one)]
            if said:
                chosen.append((newest.id, marking, said))
        return chosen, left

    def _require_colleague(self, desk: str) -> None:
        own = self._own
        party = party_of(own.name)
        if party_of(desk) != party or desk == own.name or desk not in own.trust.roster(party).desks:
            raise UsageError(
                f"{desk} is no other desk of {party}", hint="a country passes on to its own desks; see `tocsin explain`"
            )
        if own.trust.card(desk, week_of(own.clock())) is None:
            raise UsageError(f"{desk} has no key card for this week", hint="it publishes one when it first connects")

    def _held(self, channel: str) -> Iterator[Held]:
        archive = self._own.archive
        for identity in (*archive.sent(), *(received.id for received in archive.received(channel))):
            header = env.Header.FromString(archive.header_of(identity) or b"")
            if header.channel == channel:
                yield Held(identity, header)

    def _missed(self, header: env.Header, desk: str) -> bool:
        """Whether a desk could not open an envelope and may read today what is said there; answers are for two desks."""
        had_card = any(reader.desk == desk and reader.card for reader in header.audience)
        return not had_card and not header.answers and header.sender != desk and self._may_read(header, desk)

    def _may_read(self, header: env.Header, desk: str) -> bool:
        own = self._own
        today = env.Header(sender=header.sender, channel=header.channel, create_time_ms=own.clock())
        today.marking = header.marking
        return desk in own.admission.audience(today, *own.current())

    def _is_member(self, header: env.Header, desk: str) -> bool:
        return header.sender == desk or any(reader.desk == desk for reader in header.audience)

    def _items(self, one: Held) -> Iterator[rep.Item]:
        try:
            content = self._own.archive.content(one.id)
        except TocsinError:
            # Sealed again since: what it said stands elsewhere.
            return
        indexes, size = list[int](), 0
        for index, raw in enumerate(content.items):
            if reshare.kind_of(raw) in reshare.KINDS:
                indexes.append(index)
                size += len(raw) + PROOF_BYTES
            if indexes and (size > MAX_BYTES or index == len(content.items) - 1):
                yield rep.Item(reshare=reshare.make(content.outer, content.items, content.salt_seed, indexes))
                indexes, size = [], 0


def _time(one: Held) -> int:
    return one.header.create_time_ms
