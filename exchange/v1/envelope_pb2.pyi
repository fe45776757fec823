from keys.v1 import documents_pb2 as _documents_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RosterPin(_message.Message):
    __slots__ = ("party", "generation", "version", "digest")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    party: str
    generation: int
    version: int
    digest: bytes
    def __init__(self, party: _Optional[str] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Reader(_message.Message):
    __slots__ = ("desk", "card")
    DESK_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    desk: str
    card: bytes
    def __init__(self, desk: _Optional[str] = ..., card: _Optional[bytes] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("suite", "lineage", "agreement_version", "agreement", "rosters", "sender", "key", "channel", "marking", "stream", "seq", "prev_seq", "prev_id", "audience", "create_time_ms", "expire_time_ms", "courier", "random", "padded_length", "answers")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    ROSTERS_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MARKING_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PREV_SEQ_FIELD_NUMBER: _ClassVar[int]
    PREV_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COURIER_FIELD_NUMBER: _ClassVar[int]
    RANDOM_FIELD_NUMBER: _ClassVar[int]
    PADDED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    suite: int
    lineage: bytes
    agreement_version: int
    agreement: bytes
    rosters: _containers.RepeatedCompositeFieldContainer[RosterPin]
    sender: str
    key: bytes
    channel: str
    marking: _documents_pb2.Marking
    stream: bytes
    seq: int
    prev_seq: int
    prev_id: bytes
    audience: _containers.RepeatedCompositeFieldContainer[Reader]
    create_time_ms: int
    expire_time_ms: int
    courier: bytes
    random: bytes
    padded_length: int
    answers: bytes
    def __init__(self, suite: _Optional[int] = ..., lineage: _Optional[bytes] = ..., agreement_version: _Optional[int] = ..., agreement: _Optional[bytes] = ..., rosters: _Optional[_Iterable[_Union[RosterPin, _Mapping]]] = ..., sender: _Optional[str] = ..., key: _Optional[bytes] = ..., channel: _Optional[str] = ..., marking: _Optional[_Union[_documents_pb2.Marking, str]] = ..., stream: _Optional[bytes] = ..., seq: _Optional[int] = ..., prev_seq: _Optional[int] = ..., prev_id: _Optional[bytes] = ..., audience: _Optional[_Iterable[_Union[Reader, _Mapping]]] = ..., create_time_ms: _Optional[int] = ..., expire_time_ms: _Optional[int] = ..., courier: _Optional[bytes] = ..., random: _Optional[bytes] = ..., padded_length: _Optional[int] = ..., answers: _Optional[bytes] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("suite", "key", "header", "commitment", "items_root", "wraps", "ciphertext", "signature")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_ROOT_FIELD_NUMBER: _ClassVar[int]
    WRAPS_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    suite: int
    key: bytes
    header: bytes
    commitment: bytes
    items_root: bytes
    wraps: Wraps
    ciphertext: bytes
    signature: bytes
    def __init__(self, suite: _Optional[int] = ..., key: _Optional[bytes] = ..., header: _Optional[bytes] = ..., commitment: _Optional[bytes] = ..., items_root: _Optional[bytes] = ..., wraps: _Optional[_Union[Wraps, _Mapping]] = ..., ciphertext: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Wraps(_message.Message):
    __slots__ = ("wrap",)
    WRAP_FIELD_NUMBER: _ClassVar[int]
    wrap: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, wrap: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("header", "items")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    items: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, header: _Optional[bytes] = ..., items: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Pruned(_message.Message):
    __slots__ = ("suite", "key", "header", "commitment", "items_root", "wraps_digest", "ciphertext_digest", "ciphertext_length", "signature")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_ROOT_FIELD_NUMBER: _ClassVar[int]
    WRAPS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    suite: int
    key: bytes
    header: bytes
    commitment: bytes
    items_root: bytes
    wraps_digest: bytes
    ciphertext_digest: bytes
    ciphertext_length: int
    signature: bytes
    def __init__(self, suite: _Optional[int] = ..., key: _Optional[bytes] = ..., header: _Optional[bytes] = ..., commitment: _Optional[bytes] = ..., items_root: _Optional[bytes] = ..., wraps_digest: _Optional[bytes] = ..., ciphertext_digest: _Optional[bytes] = ..., ciphertext_length: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...
