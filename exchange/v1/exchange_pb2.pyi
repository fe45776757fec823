from exchange.v1 import evidence_pb2 as _evidence_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_UNSPECIFIED: _ClassVar[EntryKind]
    ENTRY_KIND_ENVELOPE: _ClassVar[EntryKind]
    ENTRY_KIND_DOCUMENT: _ClassVar[EntryKind]
    ENTRY_KIND_HEAD: _ClassVar[EntryKind]
    ENTRY_KIND_REFUSAL: _ClassVar[EntryKind]
ENTRY_KIND_UNSPECIFIED: EntryKind
ENTRY_KIND_ENVELOPE: EntryKind
ENTRY_KIND_DOCUMENT: EntryKind
ENTRY_KIND_HEAD: EntryKind
ENTRY_KIND_REFUSAL: EntryKind

class PublishRequest(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("results", "checkpoint")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    checkpoint: bytes
    def __init__(self, results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class PublishResult(_message.Message):
    __slots__ = ("id", "position", "proof", "rule", "text", "retry_after_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    position: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    rule: str
    text: str
    retry_after_ms: int
    def __init__(self, id: _Optional[bytes] = ..., position: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("position", "channels", "follow", "echo", "early", "seen_size")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    EARLY_FIELD_NUMBER: _ClassVar[int]
    SEEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    position: int
    channels: _containers.RepeatedScalarFieldContainer[str]
    follow: bool
    echo: bool
    early: bool
    seen_size: int
    def __init__(self, position: _Optional[int] = ..., channels: _Optional[_Iterable[str]] = ..., follow: _Optional[bool] = ..., echo: _Optional[bool] = ..., early: _Optional[bool] = ..., seen_size: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("position", "kind", "data", "leaf", "proof", "pruned")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    PRUNED_FIELD_NUMBER: _ClassVar[int]
    position: int
    kind: EntryKind
    data: bytes
    leaf: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    pruned: bool
    def __init__(self, position: _Optional[int] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., data: _Optional[bytes] = ..., leaf: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ..., pruned: _Optional[bool] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("entries", "checkpoint", "consistency", "next_position", "early")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    EARLY_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    checkpoint: bytes
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    next_position: int
    early: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ..., consistency: _Optional[_Iterable[bytes]] = ..., next_position: _Optional[int] = ..., early: _Optional[_Iterable[bytes]] = ...) -> None: ...

class NodeRefusal(_message.Message):
    __slots__ = ("origin", "position", "id", "rule", "text", "time_ms", "node", "desk")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DESK_FIELD_NUMBER: _ClassVar[int]
    origin: str
    position: int
    id: bytes
    rule: str
    text: str
    time_ms: int
    node: str
    desk: str
    def __init__(self, origin: _Optional[str] = ..., position: _Optional[int] = ..., id: _Optional[bytes] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ..., time_ms: _Optional[int] = ..., node: _Optional[str] = ..., desk: _Optional[str] = ...) -> None: ...

class SignedRefusal(_message.Message):
    __slots__ = ("refusal", "signature")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    refusal: bytes
    signature: bytes
    def __init__(self, refusal: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class GetDocumentsRequest(_message.Message):
    __slots__ = ("type", "page_size", "page_token")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    type: str
    page_size: int
    page_token: str
    def __init__(self, type: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetDocumentsResponse(_message.Message):
    __slots__ = ("documents", "next_page_token", "taken_ms")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TAKEN_MS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[bytes]
    next_page_token: str
    taken_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, documents: _Optional[_Iterable[bytes]] = ..., next_page_token: _Optional[str] = ..., taken_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class PutDocumentsRequest(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, documents: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PutDocumentsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DocumentResult]
    def __init__(self, results: _Optional[_Iterable[_Union[DocumentResult, _Mapping]]] = ...) -> None: ...

class DocumentResult(_message.Message):
    __slots__ = ("digest", "rule", "text")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    rule: str
    text: str
    def __init__(self, digest: _Optional[bytes] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ("origin", "seen")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    origin: str
    seen: bytes
    def __init__(self, origin: _Optional[str] = ..., seen: _Optional[bytes] = ...) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "cosigned", "later")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    cosigned: bytes
    later: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., cosigned: _Optional[bytes] = ..., later: _Optional[bytes] = ...) -> None: ...

class GetProofRequest(_message.Message):
    __slots__ = ("leaf", "size", "from_size")
    LEAF_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FROM_SIZE_FIELD_NUMBER: _ClassVar[int]
    leaf: bytes
    size: int
    from_size: int
    def __init__(self, leaf: _Optional[bytes] = ..., size: _Optional[int] = ..., from_size: _Optional[int] = ...) -> None: ...

class GetProofResponse(_message.Message):
    __slots__ = ("position", "inclusion", "consistency", "size")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    position: int
    inclusion: _containers.RepeatedScalarFieldContainer[bytes]
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    size: int
    def __init__(self, position: _Optional[int] = ..., inclusion: _Optional[_Iterable[bytes]] = ..., consistency: _Optional[_Iterable[bytes]] = ..., size: _Optional[int] = ...) -> None: ...

class GetPositionRequest(_message.Message):
    __slots__ = ("leaf", "endings")
    LEAF_FIELD_NUMBER: _ClassVar[int]
    ENDINGS_FIELD_NUMBER: _ClassVar[int]
    leaf: bytes
    endings: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, leaf: _Optional[bytes] = ..., endings: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetPositionResponse(_message.Message):
    __slots__ = ("log",)
    LOG_FIELD_NUMBER: _ClassVar[int]
    log: _evidence_pb2.LogView
    def __init__(self, log: _Optional[_Union[_evidence_pb2.LogView, _Mapping]] = ...) -> None: ...

class GetForksRequest(_message.Message):
    __slots__ = ("page_token",)
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_token: str
    def __init__(self, page_token: _Optional[str] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("sender", "stream", "seq", "first", "second", "time_ms")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    sender: str
    stream: bytes
    seq: int
    first: Entry
    second: Entry
    time_ms: int
    def __init__(self, sender: _Optional[str] = ..., stream: _Optional[bytes] = ..., seq: _Optional[int] = ..., first: _Optional[_Union[Entry, _Mapping]] = ..., second: _Optional[_Union[Entry, _Mapping]] = ..., time_ms: _Optional[int] = ...) -> None: ...

class GetForksResponse(_message.Message):
    __slots__ = ("forks", "checkpoint", "next_page_token")
    FORKS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    forks: _containers.RepeatedCompositeFieldContainer[Fork]
    checkpoint: bytes
    next_page_token: str
    def __init__(self, forks: _Optional[_Iterable[_Union[Fork, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPlacesRequest(_message.Message):
    __slots__ = ("leaves", "node")
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    leaves: _containers.RepeatedScalarFieldContainer[bytes]
    node: str
    def __init__(self, leaves: _Optional[_Iterable[bytes]] = ..., node: _Optional[str] = ...) -> None: ...

class GetPlacesResponse(_message.Message):
    __slots__ = ("checkpoint", "places")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    places: _containers.RepeatedCompositeFieldContainer[_evidence_pb2.LogPlace]
    def __init__(self, checkpoint: _Optional[bytes] = ..., places: _Optional[_Iterable[_Union[_evidence_pb2.LogPlace, _Mapping]]] = ...) -> None: ...

class GetNumbersRequest(_message.Message):
    __slots__ = ("stream", "first_seq", "last_seq", "sender")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    stream: bytes
    first_seq: int
    last_seq: int
    sender: str
    def __init__(self, stream: _Optional[bytes] = ..., first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., sender: _Optional[str] = ...) -> None: ...

class GetNumbersResponse(_message.Message):
    __slots__ = ("entries", "checkpoint", "last_seq", "last_id")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    checkpoint: bytes
    last_seq: int
    last_id: bytes
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ..., last_seq: _Optional[int] = ..., last_id: _Optional[bytes] = ...) -> None: ...

class AddCosignatureRequest(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ...) -> None: ...

class AddCosignatureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PutAttachmentRequest(_message.Message):
    __slots__ = ("digest", "size", "offset", "data")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    size: int
    offset: int
    data: bytes
    def __init__(self, digest: _Optional[bytes] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutAttachmentResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: int
    def __init__(self, held: _Optional[int] = ...) -> None: ...

class GetAttachmentRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    offset: int
    def __init__(self, digest: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class GetAttachmentResponse(_message.Message):
    __slots__ = ("size", "data")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    size: int
    data: bytes
    def __init__(self, size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("desk", "csr", "time_ms", "signature")
    DESK_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    desk: str
    csr: bytes
    time_ms: int
    signature: bytes
    def __init__(self, desk: _Optional[str] = ..., csr: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("certificate", "ca")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    ca: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., ca: _Optional[bytes] = ...) -> None: ...
