"""Errors of the watch. None of them travels, so none is a rule of docs/PROTOCOL.md; `reason` is stable all the same."""

from keys.errors import UsageError


class WatchInputError(UsageError):
    """A table or a set of thresholds that the watch cannot read; nothing of it was taken."""

    reason = "WATCH_INPUT"
    hint = "mend the row named and try again; nothing was taken"


class SeriesBytesError(WatchInputError):
    """Stored bytes that are no series of this version."""

    reason = "WATCH_SERIES"
    hint = "rebuild the series from the archive"


class ObservationError(WatchInputError):
    """A value that a series does not take; the rest of its report stands."""

    reason = "WATCH_OBSERVATION"
    hint = "the value is shown as refused; ask its reporter"
