"""Rights: what the documents that an envelope pins allow, for ever (docs/PROTOCOL.md section 7, steps 1 to 4). No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from exchange import policy
from exchange.audiences import Audiences
from exchange.envelope import Checked, Parsed, check
from exchange.errors import AudienceError, CourierError, ExpiredError, PinnedError, PolicyError, SenderError
from exchange.v1 import envelope_pb2 as pb
from keys.errors import UnknownSuiteError
from keys.trust import AgreementView, MissingDocumentError, RosterView, Trust, WrongLineageError, party_of
from keys.v1 import documents_pb2 as docs

Answered = Callable[[bytes], pb.Header | None]
"""Finds the header of a held envelope by its id; None when it is not held."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An envelope that passed every rule; `warnings` are loud facts that did not stop it."""

    checked: Checked
    rule: docs.ChannelRule
    warnings: tuple[str, ...] = ()

    @property
    def header(self) -> pb.Header:
        """The verified header."""
        return self.checked.header

    @property
    def id(self) -> bytes:
        """The identity, 32 bytes."""
        return self.checked.id


class Rights:
    """The rules over one Trust that do not depend on when they are asked."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._audiences = Audiences()

    def rights(self, parsed: Parsed, *, answered: Answered) -> Admitted:
        """The rules that hold for ever: signature, pinned documents, rights, audience, courier group.

        Raises:
            PeerError: As `admit`.
        """
        found = self.trust.desk_key(parsed.outer.key)
        if found is None:
            raise SenderError(
                "no roster held lists the signing key", key=parsed.outer.key.hex(), **self._newest_facts()
            )
        desk, key = found
        if key.suite != parsed.outer.suite:
            raise UnknownSuiteError(
                f"the key of {desk} is of suite {key.suite}", suite=parsed.outer.suite, **self._desk_facts(desk)
            )
        checked = check(parsed, key.public)
        header = checked.header
        if header.sender != desk:
            raise SenderError(
                f"the key belongs to {desk}, the header names another sender", desk=desk, **self._desk_facts(desk)
            )
        agreement, rosters = self._pinned(header)
        self._check_sender(header, rosters)
        rule = self._check_policy(header, agreement, rosters, answered)
        return Admitted(checked, rule)

    def endings(self, data: bytes) -> tuple[bytes, ...]:
        """Digests of what ended the key that an unverified envelope names; none while it counts, or cannot be read."""
        header, outer = pb.Header(), pb.Envelope()
        try:
            outer.ParseFromString(data)
            header.ParseFromString(outer.header)
        except DecodeError:
            return ()
        return tuple(ending.document for ending in self.trust.endings(header.sender, header.key))

    def audience(
        self, header: pb.Header, agreement: AgreementView, rosters: Mapping[str, RosterView]
    ) -> tuple[str, ...]:
        """The desks that may read, by the documents the header pins."""
        return self._audiences.find(header, agreement, rosters)

    def _pinned(self, header: pb.Header) -> tuple[AgreementView, dict[str, RosterView]]:
        if header.lineage != self.trust.lineage:
            raise WrongLineageError("the envelope belongs to another exchange", document="agreement", version=1)
        self._require_held(header)
        agreement = self.trust.find_agreement(header.agreement)
        body, facts = agreement.body, agreement_facts(agreement)
        if header.agreement_version != body.version:
            raise PinnedError("the pinned agreement has another version than its digest says", **facts)
        _require_suite(header.suite, agreement)
        if header.create_time_ms < body.effective_time_ms - body.skew_ms:
            raise PinnedError(f"agreement {body.version} is not yet in force", **facts)
        if header.create_time_ms >= self.trust.agreement_ends_ms(agreement):
            raise PinnedError(f"agreement {body.version} was no longer in force", **facts)
        if header.expire_time_ms > header.create_time_ms + body.lifetime_ms:
            raise ExpiredError("the envelope claims a longer life than the agreement allows", **facts)
        if [pin.party for pin in header.rosters] != [member.party for member in body.parties]:
            raise PinnedError("an envelope pins one roster of each party", **facts)
        rosters = {}
        for pin in header.rosters:
            view = self.trust.find_roster(pin.digest)
            if (view.party, view.body.generation, view.body.version) != (pin.party, pin.generation, pin.version):
                raise PinnedError(
                    f"the pinned {pin.party} roster has another number than its digest says", **roster_facts(view)
                )
            if not view.body.issue_time_ms - body.skew_ms <= header.create_time_ms < view.body.expire_time_ms:
                raise PinnedError(f"the pinned {pin.party} roster was not in force", **roster_facts(view))
            rosters[pin.party] = view
        return agreement, rosters

    def _require_held(self, header: pb.Header) -> None:
        if not self.trust.holds(header.agreement):
            raise MissingDocumentError(
                f"agreement {header.agreement_version} is not held",
                document="agreement",
                version=header.agreement_version,
                digest=header.agreement.hex(),
            )
        for pin in header.rosters:
            if not self.trust.holds(pin.digest):
                raise MissingDocumentError(
                    f"the pinned {pin.party} roster {pin.version} is not held",
                    document=f"{pin.party} roster",
                    version=pin.version,
                    digest=pin.digest.hex(),
                )

    def _check_sender(self, header: pb.Header, rosters: Mapping[str, RosterView]) -> None:
        view = rosters.get(party_of(header.sender))
        facts = roster_facts(view) if view else {}
        found = policy.find_desk(rosters, header.sender)
        key = found[0].keys.get(header.key) if found else None
        if key is None:
            raise SenderError(f"the pinned roster lists no such key of {header.sender}", desk=header.sender, **facts)
        ended = key.last_use_ms and header.create_time_ms >= key.last_use_ms
        if key.state != docs.KEY_STATE_ACTIVE or header.create_time_ms < key.first_use_ms or ended:
            raise SenderError(f"the key of {header.sender} was not in use at that time", desk=header.sender, **facts)

    def _check_policy(
        self, header: pb.Header, agreement: AgreementView, rosters: Mapping[str, RosterView], answered: Answered
    ) -> docs.ChannelRule:
        rule, facts = agreement.channels.get(header.channel), agreement_facts(agreement)
        if rule is None:
            raise PolicyError(
                f"agreement {agreement.body.version} has no channel {header.channel}", channel=header.channel, **facts
            )
        if header.marking not in policy.MARKING_NAMES:
            raise PolicyError("the marking is none of TLP 2.0", **facts)
        _require_courier(header, rule, facts)
        names = tuple(reader.desk for reader in header.audience)
        if header.answers:
            self._check_answer(header, names, answered, facts)
            return rule
        if not policy.may_publish(agreement, rosters, sender=header.sender, channel=header.channel):
            raise PolicyError(
                f"agreement {agreement.body.version} does not let {header.sender} publish on {header.channel}",
                desk=header.sender,
                channel=header.channel,
                **facts,
            )
        wanted = self.audience(header, agreement, rosters)
        narrowed = header.marking == docs.MARKING_RED and set(names) <= set(wanted)
        if names != wanted and not narrowed:
            extra, left_out = sorted(set(names) - set(wanted)), sorted(set(wanted) - set(names))
            raise AudienceError(
                f"the audience differs from the agreed one: not allowed {extra}, left out {left_out}",
                extra=",".join(extra),
                left_out=",".join(left_out),
                **facts,
            )
        return rule

    def _check_answer(
        self, header: pb.Header, names: tuple[str, ...], answered: Answered, facts: Mapping[str, str]
    ) -> None:
        """Control items are allowed to any member of the envelope they name, towards its members only."""
        first = answered(header.answers)
        if first is None:
            raise MissingDocumentError("the envelope that is answered is not held", id=header.answers.hex())
        members = {reader.desk for reader in first.audience} | {first.sender}
        if header.sender not in members:
            raise PolicyError(f"{header.sender} is no member of the envelope it answers", desk=header.sender, **facts)
        if not set(names) <= members or (header.channel, header.marking) != (first.channel, first.marking):
            raise AudienceError(
                "an answer goes to members of the envelope it names, on its channel and marking", **facts
            )

    def _newest_facts(self) -> dict[str, str]:
        """Every newest roster: where a desk that is not known should have been."""
        held = [self.trust.roster(party) for party in self.trust.parties if self.trust.has_roster(party)]
        return {"document": "roster", "version": ",".join(f"{view.party} {view.body.version}" for view in held)}

    def _desk_facts(self, desk: str) -> dict[str, str]:
        """The newest roster of a desk's party."""
        return roster_facts(self.trust.roster(party_of(desk)))


def _require_suite(suite_id: int, agreement: AgreementView) -> None:
    """A suite that the agreement does not list, or no longer, is of no use (docs/PROTOCOL.md section 3.1)."""
    if suite_id not in agreement.body.suites:
        raise UnknownSuiteError(
            f"agreement {agreement.body.version} does not allow suite {suite_id}",
            suite=suite_id,
            **agreement_facts(agreement),
        )


def _require_courier(header: pb.Header, rule: docs.ChannelRule, facts: Mapping[str, str]) -> None:
    """A courier key exactly where the rule names a group (docs/PROTOCOL.md section 5.6)."""
    if bool(rule.courier_group) != bool(header.courier):
        needs = "requires a" if rule.courier_group else "uses no"
        raise CourierError(f"channel {header.channel} {needs} courier key", channel=header.channel, **facts)


# Every refusal names the document that it follows from, and its version (docs/PROTOCOL.md section 12).


def agreement_facts(view: AgreementView) -> dict[str, str]:
    """An agreement as the metadata of a refusal."""
    return {"document": "agreement", "version": str(view.body.version)}


def roster_facts(view: RosterView) -> dict[str, str]:
    """A roster as the metadata of a refusal."""
    return {"document": f"{view.party} roster", "version": str(view.body.version), "party": view.party}
