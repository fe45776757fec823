"""Periods and dates as reports write them, in UTC, with their first millisecond."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_FORMS: Final = re.compile(
    r"(?P<year>[12][0-9]{3})(?:-W(?P<week>[0-9]{2})|-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?)?\Z"
)


@lru_cache(512)  # reports of one week speak of few periods
def period_start_ms(text: str) -> int | None:
    """First millisecond of "2023", "2023-11", "2023-W47" (ISO 8601 week) or "2023-11-20"; None if it is no period."""
    found = _FORMS.match(text)
    if found is None:
        return None
    year, week = int(found["year"]), found["week"]
    try:
        if week:
            start = datetime.fromisocalendar(year, int(week), 1).replace(tzinfo=UTC)
        else:
            start = datetime(year, int(found["month"] or 1), int(found["day"] or 1), tzinfo=UTC)
    except ValueError:
        return None
    return int(start.timestamp()) * 1000


def date_start_ms(text: str) -> int | None:
    """First millisecond of "2023-11-20" or "2023-11"; None if it is neither."""
    return period_start_ms(text) if len(text) in (7, 10) and "W" not in text else None
