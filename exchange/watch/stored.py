"""Series as bytes for the desk's archive, which encrypts them. Bytes that are no series give one error, whatever they are.

Layout, little-endian: "tws1", then texts (16-bit length, UTF-8): item, place, reporter, unit, currency; indicator and
market (16 bits each); count of origins (8 bits) and the origins as texts; count of observations (16 bits); then each:
period (10 bytes, padded with zeros), known_ms (64), report (16 bytes), origin number, reliability, credibility, flags
(8 bits each; 1 = estimate, 2 = withdrawn), value (double). One observation takes 46 bytes.
"""

import struct
from itertools import pairwise
from typing import Final

from exchange.report.periods import period_start_ms
from exchange.watch.errors import SeriesBytesError
from exchange.watch.series import MAX_OBSERVATIONS, MAX_ORIGINS, Grade, Observation, Series, SeriesKey

_MAGIC: Final = b"tws1"
_ROW: Final = struct.Struct("<10sQ16sBBBBd")
_ESTIMATE: Final = 1
_WITHDRAWN: Final = 2


def to_bytes(series: Series) -> bytes:
    """A series as bytes."""
    key = series.key
    names = list(dict.fromkeys(one.origin for one in series.observations))
    out = [_MAGIC]
    out += [_text(part) for part in (key.item, key.place, key.reporter, series.unit, series.currency)]
    out += [struct.pack("<HHB", key.indicator, key.market, len(names)), *(_text(name) for name in names)]
    out.append(struct.pack("<H", len(series.observations)))
    for one in series.observations:
        flags = _ESTIMATE * one.estimate + _WITHDRAWN * (one.value is None)
        row = (
            one.period.encode(),
            one.known_ms,
            one.report,
            names.index(one.origin),
            *one.grade,
            flags,
            one.value or 0.0,
        )
        out.append(_ROW.pack(*row))
    return b"".join(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<H", len(data)) + data


def from_bytes(data: bytes) -> Series:
    """The series in bytes of `to_bytes`.

    Raises:
        SeriesBytesError: They are none.
    """
    try:
        return _Reader(data).series()
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise SeriesBytesError(f"no series: {type(error).__name__}") from None


class _Reader:
    """Reads forward, never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int) -> bytes:
        # What ends early is found by whoever unpacks the part: a text is never the last one.
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _text(self) -> str:
        return self._take(self._number("<H")).decode()

    def series(self) -> Series:
        if self._take(4) != _MAGIC:
            raise ValueError("magic")
        item, place, reporter, unit, currency = (self._text() for _ in range(5))
        key = SeriesKey(item, self._number("<H"), self._number("<H"), place, reporter)
        count = self._number("<B")
        if count > MAX_ORIGINS:
            raise ValueError("origins")
        names = [self._text() for _ in range(count)]
        rows = self._number("<H")
        if rows > MAX_OBSERVATIONS:
            raise ValueError("observations")
        observations = tuple(self._observation(names) for _ in range(rows))
        if self._at != len(self._data):
            raise ValueError("bytes after the end")
        if any(a.known_ms > b.known_ms for a, b in pairwise(observations)):
            raise ValueError("order")
        return Series(key, unit, currency, observations)

    def _observation(self, names: list[str]) -> Observation:
        period, known, report, origin, reliability, credibility, flags, value = _ROW.unpack(self._take(_ROW.size))
        text = period.rstrip(b"\0").decode()
        if period_start_ms(text) is None or flags > _ESTIMATE + _WITHDRAWN or value != value:
            raise ValueError("observation")
        said = None if flags & _WITHDRAWN else value
        grade = Grade(reliability, credibility)
        return Observation(text, said, known, report, names[origin], grade, bool(flags & _ESTIMATE))
