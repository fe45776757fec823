from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Evidence(_message.Message):
    __slots__ = ("lineage", "item", "salt", "index", "count", "proof", "envelope", "logs", "documents")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    item: bytes
    salt: bytes
    index: int
    count: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    envelope: bytes
    logs: _containers.RepeatedCompositeFieldContainer[LogView]
    documents: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lineage: _Optional[bytes] = ..., item: _Optional[bytes] = ..., salt: _Optional[bytes] = ..., index: _Optional[int] = ..., count: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., envelope: _Optional[bytes] = ..., logs: _Optional[_Iterable[_Union[LogView, _Mapping]]] = ..., documents: _Optional[_Iterable[bytes]] = ...) -> None: ...

class LogView(_message.Message):
    __slots__ = ("heads", "places")
    HEADS_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[Head]
    places: _containers.RepeatedCompositeFieldContainer[LogPlace]
    def __init__(self, heads: _Optional[_Iterable[_Union[Head, _Mapping]]] = ..., places: _Optional[_Iterable[_Union[LogPlace, _Mapping]]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("note", "consistency")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, note: _Optional[bytes] = ..., consistency: _Optional[_Iterable[bytes]] = ...) -> None: ...

class LogPlace(_message.Message):
    __slots__ = ("leaf", "position", "proof")
    LEAF_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    leaf: bytes
    position: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, leaf: _Optional[bytes] = ..., position: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...
