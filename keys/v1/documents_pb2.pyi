from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Marking(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKING_UNSPECIFIED: _ClassVar[Marking]
    MARKING_CLEAR: _ClassVar[Marking]
    MARKING_GREEN: _ClassVar[Marking]
    MARKING_AMBER: _ClassVar[Marking]
    MARKING_AMBER_STRICT: _ClassVar[Marking]
    MARKING_RED: _ClassVar[Marking]

class MissionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSION_KIND_UNSPECIFIED: _ClassVar[MissionKind]
    MISSION_KIND_EMBASSY: _ClassVar[MissionKind]
    MISSION_KIND_CONSULATE: _ClassVar[MissionKind]
    MISSION_KIND_MINISTRY: _ClassVar[MissionKind]
    MISSION_KIND_AGENCY: _ClassVar[MissionKind]
    MISSION_KIND_COMPANY: _ClassVar[MissionKind]
    MISSION_KIND_UNIVERSITY: _ClassVar[MissionKind]

class KeyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_STATE_UNSPECIFIED: _ClassVar[KeyState]
    KEY_STATE_PREPARED: _ClassVar[KeyState]
    KEY_STATE_ACTIVE: _ClassVar[KeyState]
    KEY_STATE_TAINTED: _ClassVar[KeyState]
    KEY_STATE_REVOKED: _ClassVar[KeyState]
MARKING_UNSPECIFIED: Marking
MARKING_CLEAR: Marking
MARKING_GREEN: Marking
MARKING_AMBER: Marking
MARKING_AMBER_STRICT: Marking
MARKING_RED: Marking
MISSION_KIND_UNSPECIFIED: MissionKind
MISSION_KIND_EMBASSY: MissionKind
MISSION_KIND_CONSULATE: MissionKind
MISSION_KIND_MINISTRY: MissionKind
MISSION_KIND_AGENCY: MissionKind
MISSION_KIND_COMPANY: MissionKind
MISSION_KIND_UNIVERSITY: MissionKind
KEY_STATE_UNSPECIFIED: KeyState
KEY_STATE_PREPARED: KeyState
KEY_STATE_ACTIVE: KeyState
KEY_STATE_TAINTED: KeyState
KEY_STATE_REVOKED: KeyState

class Signature(_message.Message):
    __slots__ = ("suite", "key", "signature")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    suite: int
    key: bytes
    signature: bytes
    def __init__(self, suite: _Optional[int] = ..., key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("type", "body", "signatures")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    type: str
    body: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, type: _Optional[str] = ..., body: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("documents", "taken_ms")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_MS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[bytes]
    taken_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, documents: _Optional[_Iterable[bytes]] = ..., taken_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class PublicKey(_message.Message):
    __slots__ = ("suite", "key", "possession")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    POSSESSION_FIELD_NUMBER: _ClassVar[int]
    suite: int
    key: bytes
    possession: bytes
    def __init__(self, suite: _Optional[int] = ..., key: _Optional[bytes] = ..., possession: _Optional[bytes] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("party", "kind", "mission")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MISSION_FIELD_NUMBER: _ClassVar[int]
    party: str
    kind: MissionKind
    mission: str
    def __init__(self, party: _Optional[str] = ..., kind: _Optional[_Union[MissionKind, str]] = ..., mission: _Optional[str] = ...) -> None: ...

class ReadRule(_message.Message):
    __slots__ = ("who", "highest")
    WHO_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    who: Selector
    highest: Marking
    def __init__(self, who: _Optional[_Union[Selector, _Mapping]] = ..., highest: _Optional[_Union[Marking, str]] = ...) -> None: ...

class ChannelRule(_message.Message):
    __slots__ = ("channel", "publish", "read", "cadence_ms", "retention_ms", "acknowledge", "courier_group", "gap_wait_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    CADENCE_MS_FIELD_NUMBER: _ClassVar[int]
    RETENTION_MS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    COURIER_GROUP_FIELD_NUMBER: _ClassVar[int]
    GAP_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    publish: _containers.RepeatedCompositeFieldContainer[Selector]
    read: _containers.RepeatedCompositeFieldContainer[ReadRule]
    cadence_ms: int
    retention_ms: int
    acknowledge: bool
    courier_group: str
    gap_wait_ms: int
    def __init__(self, channel: _Optional[str] = ..., publish: _Optional[_Iterable[_Union[Selector, _Mapping]]] = ..., read: _Optional[_Iterable[_Union[ReadRule, _Mapping]]] = ..., cadence_ms: _Optional[int] = ..., retention_ms: _Optional[int] = ..., acknowledge: _Optional[bool] = ..., courier_group: _Optional[str] = ..., gap_wait_ms: _Optional[int] = ...) -> None: ...

class AgreementParty(_message.Message):
    __slots__ = ("party", "first_party")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    FIRST_PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    first_party: bytes
    def __init__(self, party: _Optional[str] = ..., first_party: _Optional[bytes] = ...) -> None: ...

class DeskCap(_message.Message):
    __slots__ = ("kind", "desks")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESKS_FIELD_NUMBER: _ClassVar[int]
    kind: MissionKind
    desks: int
    def __init__(self, kind: _Optional[_Union[MissionKind, str]] = ..., desks: _Optional[int] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("lineage", "version", "previous", "title", "parties", "channels", "suites", "protocols", "revocation_ms", "lifetime_ms", "skew_ms", "caps", "hold_ms", "effective_time_ms", "expire_time_ms", "grace_ms", "stop_when_stale", "drill", "dead_lineages")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    SUITES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_MS_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_MS_FIELD_NUMBER: _ClassVar[int]
    SKEW_MS_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    HOLD_MS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    STOP_WHEN_STALE_FIELD_NUMBER: _ClassVar[int]
    DRILL_FIELD_NUMBER: _ClassVar[int]
    DEAD_LINEAGES_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    version: int
    previous: bytes
    title: str
    parties: _containers.RepeatedCompositeFieldContainer[AgreementParty]
    channels: _containers.RepeatedCompositeFieldContainer[ChannelRule]
    suites: _containers.RepeatedScalarFieldContainer[int]
    protocols: _containers.RepeatedScalarFieldContainer[int]
    revocation_ms: int
    lifetime_ms: int
    skew_ms: int
    caps: _containers.RepeatedCompositeFieldContainer[DeskCap]
    hold_ms: int
    effective_time_ms: int
    expire_time_ms: int
    grace_ms: int
    stop_when_stale: bool
    drill: bool
    dead_lineages: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lineage: _Optional[bytes] = ..., version: _Optional[int] = ..., previous: _Optional[bytes] = ..., title: _Optional[str] = ..., parties: _Optional[_Iterable[_Union[AgreementParty, _Mapping]]] = ..., channels: _Optional[_Iterable[_Union[ChannelRule, _Mapping]]] = ..., suites: _Optional[_Iterable[int]] = ..., protocols: _Optional[_Iterable[int]] = ..., revocation_ms: _Optional[int] = ..., lifetime_ms: _Optional[int] = ..., skew_ms: _Optional[int] = ..., caps: _Optional[_Iterable[_Union[DeskCap, _Mapping]]] = ..., hold_ms: _Optional[int] = ..., effective_time_ms: _Optional[int] = ..., expire_time_ms: _Optional[int] = ..., grace_ms: _Optional[int] = ..., stop_when_stale: _Optional[bool] = ..., drill: _Optional[bool] = ..., dead_lineages: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HolderKey(_message.Message):
    __slots__ = ("holder", "key")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    holder: str
    key: PublicKey
    def __init__(self, holder: _Optional[str] = ..., key: _Optional[_Union[PublicKey, _Mapping]] = ...) -> None: ...

class RoleKeys(_message.Message):
    __slots__ = ("generation", "threshold", "keys")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    threshold: int
    keys: _containers.RepeatedCompositeFieldContainer[HolderKey]
    def __init__(self, generation: _Optional[int] = ..., threshold: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[HolderKey, _Mapping]]] = ...) -> None: ...

class Party(_message.Message):
    __slots__ = ("lineage", "party", "version", "previous", "issue_time_ms", "root", "roster", "status")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    party: str
    version: int
    previous: bytes
    issue_time_ms: int
    root: RoleKeys
    roster: RoleKeys
    status: RoleKeys
    def __init__(self, lineage: _Optional[bytes] = ..., party: _Optional[str] = ..., version: _Optional[int] = ..., previous: _Optional[bytes] = ..., issue_time_ms: _Optional[int] = ..., root: _Optional[_Union[RoleKeys, _Mapping]] = ..., roster: _Optional[_Union[RoleKeys, _Mapping]] = ..., status: _Optional[_Union[RoleKeys, _Mapping]] = ...) -> None: ...

class LocalName(_message.Message):
    __slots__ = ("language", "name")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    language: str
    name: str
    def __init__(self, language: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Mission(_message.Message):
    __slots__ = ("mission", "kind", "names", "locode", "node")
    MISSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LOCODE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    mission: str
    kind: MissionKind
    names: _containers.RepeatedCompositeFieldContainer[LocalName]
    locode: str
    node: str
    def __init__(self, mission: _Optional[str] = ..., kind: _Optional[_Union[MissionKind, str]] = ..., names: _Optional[_Iterable[_Union[LocalName, _Mapping]]] = ..., locode: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class DeskKey(_message.Message):
    __slots__ = ("key", "state", "first_use_ms", "last_use_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_USE_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_MS_FIELD_NUMBER: _ClassVar[int]
    key: PublicKey
    state: KeyState
    first_use_ms: int
    last_use_ms: int
    def __init__(self, key: _Optional[_Union[PublicKey, _Mapping]] = ..., state: _Optional[_Union[KeyState, str]] = ..., first_use_ms: _Optional[int] = ..., last_use_ms: _Optional[int] = ...) -> None: ...

class Desk(_message.Message):
    __slots__ = ("desk", "keys")
    DESK_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    desk: str
    keys: _containers.RepeatedCompositeFieldContainer[DeskKey]
    def __init__(self, desk: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[DeskKey, _Mapping]]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node", "endpoint", "enrol_endpoint", "tls_ca", "log_key", "relays")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ENROL_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TLS_CA_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    RELAYS_FIELD_NUMBER: _ClassVar[int]
    node: str
    endpoint: str
    enrol_endpoint: str
    tls_ca: bytes
    log_key: PublicKey
    relays: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., endpoint: _Optional[str] = ..., enrol_endpoint: _Optional[str] = ..., tls_ca: _Optional[bytes] = ..., log_key: _Optional[_Union[PublicKey, _Mapping]] = ..., relays: _Optional[_Iterable[str]] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("key", "time_ms", "reason")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    time_ms: int
    reason: str
    def __init__(self, key: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Suspension(_message.Message):
    __slots__ = ("channel", "name", "reason")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    reason: str
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("lineage", "party", "generation", "version", "previous", "issue_time_ms", "expire_time_ms", "missions", "desks", "nodes", "revocations", "suspensions")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MISSIONS_FIELD_NUMBER: _ClassVar[int]
    DESKS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    SUSPENSIONS_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    party: str
    generation: int
    version: int
    previous: bytes
    issue_time_ms: int
    expire_time_ms: int
    missions: _containers.RepeatedCompositeFieldContainer[Mission]
    desks: _containers.RepeatedCompositeFieldContainer[Desk]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    suspensions: _containers.RepeatedCompositeFieldContainer[Suspension]
    def __init__(self, lineage: _Optional[bytes] = ..., party: _Optional[str] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ..., previous: _Optional[bytes] = ..., issue_time_ms: _Optional[int] = ..., expire_time_ms: _Optional[int] = ..., missions: _Optional[_Iterable[_Union[Mission, _Mapping]]] = ..., desks: _Optional[_Iterable[_Union[Desk, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., revocations: _Optional[_Iterable[_Union[Revocation, _Mapping]]] = ..., suspensions: _Optional[_Iterable[_Union[Suspension, _Mapping]]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("generation", "version", "digest")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    generation: int
    version: int
    digest: bytes
    def __init__(self, generation: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Seen(_message.Message):
    __slots__ = ("party", "party_document", "roster")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    PARTY_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    party: str
    party_document: Reference
    roster: Reference
    def __init__(self, party: _Optional[str] = ..., party_document: _Optional[_Union[Reference, _Mapping]] = ..., roster: _Optional[_Union[Reference, _Mapping]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("lineage", "party", "generation", "version", "issue_time_ms", "agreement", "party_document", "roster", "annex", "suspensions", "seen")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    PARTY_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ANNEX_FIELD_NUMBER: _ClassVar[int]
    SUSPENSIONS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    party: str
    generation: int
    version: int
    issue_time_ms: int
    agreement: Reference
    party_document: Reference
    roster: Reference
    annex: Reference
    suspensions: _containers.RepeatedCompositeFieldContainer[Suspension]
    seen: _containers.RepeatedCompositeFieldContainer[Seen]
    def __init__(self, lineage: _Optional[bytes] = ..., party: _Optional[str] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ..., issue_time_ms: _Optional[int] = ..., agreement: _Optional[_Union[Reference, _Mapping]] = ..., party_document: _Optional[_Union[Reference, _Mapping]] = ..., roster: _Optional[_Union[Reference, _Mapping]] = ..., annex: _Optional[_Union[Reference, _Mapping]] = ..., suspensions: _Optional[_Iterable[_Union[Suspension, _Mapping]]] = ..., seen: _Optional[_Iterable[_Union[Seen, _Mapping]]] = ...) -> None: ...

class Annex(_message.Message):
    __slots__ = ("lineage", "version", "previous", "effective_time_ms", "thresholds")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    version: int
    previous: bytes
    effective_time_ms: int
    thresholds: _containers.RepeatedCompositeFieldContainer[Threshold]
    def __init__(self, lineage: _Optional[bytes] = ..., version: _Optional[int] = ..., previous: _Optional[bytes] = ..., effective_time_ms: _Optional[int] = ..., thresholds: _Optional[_Iterable[_Union[Threshold, _Mapping]]] = ...) -> None: ...

class Threshold(_message.Message):
    __slots__ = ("rule", "item", "micro")
    RULE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    MICRO_FIELD_NUMBER: _ClassVar[int]
    rule: str
    item: str
    micro: int
    def __init__(self, rule: _Optional[str] = ..., item: _Optional[str] = ..., micro: _Optional[int] = ...) -> None: ...

class KeyCard(_message.Message):
    __slots__ = ("lineage", "desk", "week", "suite", "key")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    DESK_FIELD_NUMBER: _ClassVar[int]
    WEEK_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    desk: str
    week: int
    suite: int
    key: bytes
    def __init__(self, lineage: _Optional[bytes] = ..., desk: _Optional[str] = ..., week: _Optional[int] = ..., suite: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class Renunciation(_message.Message):
    __slots__ = ("lineage", "desk", "key", "time_ms", "reason")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    DESK_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    desk: str
    key: bytes
    time_ms: int
    reason: str
    def __init__(self, lineage: _Optional[bytes] = ..., desk: _Optional[str] = ..., key: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
