"""Errors of the exchange; the tree is in keys/errors.py, the reasons are the rule ids of docs/PROTOCOL.md section 12."""

from keys.errors import PeerError, TocsinError


class EnvelopeError(PeerError):
    """The outside of an envelope: lengths, shape, canonical form."""

    reason = "ENVELOPE_SHAPE"
    hint = "discard; if it recurs from one sender, compare protocol versions"


class PolicyError(PeerError):
    """The agreement does not allow it."""

    status, reason = "PERMISSION_DENIED", "POLICY_PUBLISH"
    hint = "see `tocsin explain` for who may publish and read what"


class AudienceError(PolicyError):
    """The audience is not the one the agreement gives."""

    reason = "POLICY_AUDIENCE"
    hint = "seal again with the documents of today"


class CourierError(PolicyError):
    """The courier key of the envelope is not the one the channel requires."""

    reason = "COURIER_KEY"
    hint = "load the courier key of the channel's group"


class CourierMissingError(CourierError):
    """The courier key an envelope names is not at hand; it may come yet."""


class SenderError(PeerError):
    """The sending desk or its key is not known, not active or ended."""

    status, reason = "PERMISSION_DENIED", "SENDER_UNKNOWN"
    hint = "ask the party of the sender for its newest roster"


class SenderEndedError(SenderError):
    """The sender's key was tainted, revoked or renounced, or its traffic is suspended."""

    reason = "SENDER_ENDED"
    hint = "do not rely on this report; ask the sender's ministry"


class PinnedError(PeerError):
    """The agreement or a roster an envelope pins is not accepted at this time."""

    status, reason = "FAILED_PRECONDITION", "DOCUMENT_PINNED"
    hint = "fetch the newest documents and seal again"


class ExpiredError(PeerError):
    """The envelope is past its life, or made in the future."""

    status, reason = "FAILED_PRECONDITION", "ENVELOPE_TIME"
    hint = "check the clock and seal again"


class StreamError(PeerError):
    """The number of an envelope does not fit its stream."""

    status, reason = "FAILED_PRECONDITION", "STREAM_ORDER"
    hint = "start a new stream and seal again"


class ForkError(StreamError):
    """Another envelope stands at this number of the stream."""

    reason = "STREAM_FORK"


class StaleError(PeerError):
    """A party's status is older than R and the agreement says to stop."""

    status, reason = "UNAVAILABLE", "STATUS_STALE"
    hint = "fetch the party's newest status, by the pouch if the network is down"


class ProofError(PeerError):
    """A Merkle proof, checkpoint or receipt does not hold."""

    status, reason = "DATA_LOSS", "PROOF_BAD"
    hint = "keep both statements as evidence and alarm the operator"


class LogClashError(ProofError):
    """Two signed heads of one log that are not shown to be of one history; `seen` and `shown` are their notes: evidence."""

    def __init__(self, text: str, *, seen: bytes, shown: bytes) -> None:
        super().__init__(text)
        self.seen, self.shown = seen, shown


class LogForkError(LogClashError):
    """A log has two histories, or nobody proved that it has one."""

    reason = "LOG_FORK"
    hint = "export both heads, alarm the operator of that node and the other readers of its log"


class LogRollbackError(LogClashError):
    """A log is shorter than it was."""

    reason = "LOG_ROLLBACK"
    hint = "was the node restored from a backup? its operator opens a new log; keep both heads"


class StoreError(TocsinError):
    """The disk or database failed; nothing of the transaction was kept."""

    status, reason = "UNAVAILABLE", "STORE_FAILED"
    hint = "check free space and the disk, then start again"


class LimitError(PeerError):
    """More than a limit allows."""

    status, reason = "RESOURCE_EXHAUSTED", "LIMIT"
    hint = "slow down and try again"


class IdentityError(PeerError):
    """Who calls is not who they say, or not who may."""

    status, reason = "PERMISSION_DENIED", "CALLER"
    hint = "enrol the desk again, or ask the operator of the node"


class EvidenceError(PeerError):
    """A file of evidence is malformed, or does not prove what it claims; the text says where it fails."""

    reason = "EVIDENCE_BAD"
    hint = "ask for a new file from the desk that made it"


class PouchError(PeerError):
    """A pouch whose outside or manifest cannot be read, or that is not for whom it is given to."""

    status, reason = "DATA_LOSS", "POUCH_BAD"
    hint = "ask for the pouch again"


class AttachmentError(PeerError):
    """An attachment is not the file that its report names, or a part of it is altered, moved or missing."""

    reason = "ATTACHMENT_BAD"
    hint = "fetch it again; if it recurs, ask the sender"
