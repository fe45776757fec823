"""Admission: may this envelope enter, by the documents held and the time (docs/PROTOCOL.md section 7). No I/O.

Nodes and desks run the same code, so that a colluding node gains nothing. Two procedures: `admit` for live traffic;
`judge` for archives and evidence: no freshness, no expiry, a key that ended by derived position.
"""

from exchange.envelope import Parsed
from exchange.errors import (
    AudienceError,
    ExpiredError,
    ForkError,
    PinnedError,
    SenderEndedError,
    StaleError,
    StreamError,
)
from exchange.rights import Admitted, Answered, Rights, agreement_facts, roster_facts
from exchange.standing import Position, Verdict, standing
from exchange.v1 import envelope_pb2 as pb
from keys.trust import DeadLineageError, MissingDocumentError, RosterView, party_of, week_of

__all__ = ["Admission", "Admitted", "Answered", "check_stream"]


class Admission(Rights):
    """The rules over one Trust."""

    def admit(
        self,
        parsed: Parsed,
        *,
        now_ms: int,
        answered: Answered,
        from_log: bool = False,
        position: Position | None = None,
    ) -> Admitted:
        """Apply every rule to live traffic, refusing at the first that fails.

        The caller has already dropped known ids; it checks the stream next (`check_stream`). With `from_log` a log took
        the envelope in time, so its age is no reason against it: expiry and superseded rosters govern first admission only.
        `position` is its place in a log of another party than the sender's; it is looked at only when the key ended.

        Raises:
            PeerError: The subclass names the rule; MissingDocumentError means: fetch documents and try again.
        """
        death = self.trust.death
        if death is not None and not from_log:
            raise DeadLineageError(death.successor, "takes no new envelope")
        admitted = self.rights(parsed, answered=answered)
        header = admitted.header
        agreement = self.trust.find_agreement(header.agreement)
        if death is not None and header.create_time_ms >= death.told_ms + agreement.body.skew_ms:
            raise DeadLineageError(death.successor, "takes nothing made since", desk=header.sender)
        bounds, facts = agreement.body, agreement_facts(agreement)
        if header.create_time_ms > now_ms + bounds.skew_ms:
            raise ExpiredError(
                "the envelope is made in the future", create_time_ms=header.create_time_ms, now_ms=now_ms, **facts
            )
        if not from_log and now_ms >= header.expire_time_ms + bounds.skew_ms:
            raise ExpiredError("the envelope has expired", expire_time_ms=header.expire_time_ms, now_ms=now_ms, **facts)
        accept_ms = bounds.revocation_ms + bounds.lifetime_ms + 2 * bounds.skew_ms
        for pin in header.rosters:
            view = self.trust.find_roster(pin.digest)
            superseded = self.trust.superseded_ms(view)
            if not from_log and superseded is not None and now_ms >= superseded + accept_ms:
                raise PinnedError(
                    f"the {pin.party} roster {pin.version} was replaced too long ago", **roster_facts(view)
                )
            self._check_voided(header, view)
        disputes = self._check_ended(admitted, position)
        self._check_suspended(header)
        self._check_cards(header, bounds.revocation_ms)
        stale = self.trust.stale(now_ms)
        if stale and bounds.stop_when_stale:
            said = [status.version if (status := self.trust.status(party)) else 0 for party in stale]
            raise StaleError(
                f"no fresh status of {', '.join(stale)}",
                parties=",".join(stale),
                document="status",
                version=",".join(map(str, said)),
            )
        warnings = tuple(
            f"the status of {party} is older than the agreed bound: revocations may be unknown" for party in stale
        )
        return Admitted(admitted.checked, admitted.rule, disputes + warnings)

    def judge(self, parsed: Parsed, *, answered: Answered, position: Position | None = None) -> Admitted:
        """What an envelope is worth for ever: its rights by the documents it pins, and its standing if its key ended.

        Nothing here depends on the time at which it is asked: no freshness, no expiry, no suspension.

        Args:
            parsed: The envelope.
            answered: See `admit`.
            position: Its place in a log of another party than the sender's; without one an ended key counts for nothing.

        Raises:
            PeerError: As `rights`; SenderEndedError when the key ended and the position does not show it came before.
        """
        admitted = self.rights(parsed, answered=answered)
        return Admitted(admitted.checked, admitted.rule, self._check_ended(admitted, position))

    def _check_voided(self, header: pb.Header, pinned: RosterView) -> None:
        """A roster under replaced roster keys gives no rights but those its successor confirms (PROTOCOL 4.6)."""
        if not self.trust.voided(pinned):
            return
        newest = self.trust.roster(pinned.party).desks
        ours = [name for name in (header.sender, *(r.desk for r in header.audience)) if party_of(name) == pinned.party]
        unknown = [name for name in ours if name not in newest]
        if header.sender in newest and header.key not in newest[header.sender].keys:
            unknown.append(header.sender)
        if unknown:
            raise PinnedError(
                f"the {pinned.party} roster is void and the new one does not list {', '.join(unknown)}",
                **roster_facts(pinned),
            )

    def _check_ended(self, admitted: Admitted, position: Position | None) -> tuple[str, ...]:
        """Whether the key counts, or counted when a log of another party took the envelope; what is disputed, in words."""
        header = admitted.header
        if not self.trust.key_ended(header.sender, header.key):
            return ()
        found = standing(header, admitted.id, position, self.trust)
        if not found.counts:
            raise SenderEndedError(found.reason, desk=header.sender, **self._desk_facts(header.sender))
        return (found.reason,) if found.verdict is Verdict.DISPUTED else ()

    def _check_suspended(self, header: pb.Header) -> None:
        if suspended := self.trust.suspended(desk=header.sender, channel=header.channel):
            raise SenderEndedError(
                f"{header.sender} on {header.channel}: {suspended}",
                desk=header.sender,
                channel=header.channel,
                **self._desk_facts(header.sender),
            )

    def _check_cards(self, header: pb.Header, revocation_ms: int) -> None:
        week = week_of(header.create_time_ms)
        for reader in header.audience:
            held = self.trust.held_card(reader.desk, week)
            if not reader.card:
                # Nobody silently shuts a colleague out: empty only while the card could not be known to the sender.
                # A card that died with its signing key is none: whoever knew had nothing to seal to.
                dead = held is None or self.trust.key_ended(reader.desk, held.signed_by)
                if held is not None and not dead and held.taken_ms + revocation_ms <= header.create_time_ms:
                    raise AudienceError(
                        f"{reader.desk} has a key card and is left without a wrap", **_card_facts(reader.desk, week)
                    )
            elif held is None:
                raise MissingDocumentError(
                    f"the key card of {reader.desk} is not held", **_card_facts(reader.desk, week)
                )
            elif held.digest != reader.card:
                raise AudienceError(
                    f"not the key card of {reader.desk} for that week", **_card_facts(reader.desk, week)
                )


def _card_facts(desk: str, week: int) -> dict[str, str]:
    return {"document": f"key card of {desk}", "version": str(week), "desk": desk}


def check_stream(header: pb.Header, last: tuple[int, bytes] | None) -> None:
    """Numbers go up, and each envelope names the last one its sender stands by (docs/PROTOCOL.md section 5.7).

    Args:
        header: Verified.
        last: (seq, id) of the newest envelope of the stream that is held; None when there is none.

    Raises:
        StreamError: A gap at the origin: an envelope in between was refused or not yet sent.
        ForkError: A number that is taken.
    """
    held = last[0] if last else 0
    if header.seq <= held:
        raise ForkError(f"number {header.seq} of this stream is taken; the last is {held}", seq=header.seq, last=held)
    if header.prev_seq > held:
        raise StreamError(f"number {header.prev_seq} comes before and is not held; the last is {held}", last=held)
    if last and header.prev_seq == held and header.prev_id != last[1]:
        raise ForkError(f"another envelope stands at number {held} of this stream", seq=held)
