from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PartKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_KIND_UNSPECIFIED: _ClassVar[PartKind]
    PART_KIND_DOCUMENT: _ClassVar[PartKind]
    PART_KIND_ENTRY: _ClassVar[PartKind]
    PART_KIND_ENVELOPE: _ClassVar[PartKind]
    PART_KIND_RECEIPT: _ClassVar[PartKind]
    PART_KIND_COSIGNATURE: _ClassVar[PartKind]
PART_KIND_UNSPECIFIED: PartKind
PART_KIND_DOCUMENT: PartKind
PART_KIND_ENTRY: PartKind
PART_KIND_ENVELOPE: PartKind
PART_KIND_RECEIPT: PartKind
PART_KIND_COSIGNATURE: PartKind

class Part(_message.Message):
    __slots__ = ("kind", "length", "digest")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    kind: PartKind
    length: int
    digest: bytes
    def __init__(self, kind: _Optional[_Union[PartKind, str]] = ..., length: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("lineage", "sender", "receiver", "create_time_ms", "position", "next_position", "checkpoint", "from_size", "consistency", "parts", "total")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    FROM_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    sender: str
    receiver: str
    create_time_ms: int
    position: int
    next_position: int
    checkpoint: bytes
    from_size: int
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    total: int
    def __init__(self, lineage: _Optional[bytes] = ..., sender: _Optional[str] = ..., receiver: _Optional[str] = ..., create_time_ms: _Optional[int] = ..., position: _Optional[int] = ..., next_position: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., from_size: _Optional[int] = ..., consistency: _Optional[_Iterable[bytes]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...
