"""Reports and months for the tests of the watch."""

from collections.abc import Sequence
from datetime import UTC, datetime

from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from exchange.watch.board import Board, Group, Update
from exchange.watch.months import month_start_ms, month_text

NOW = int(datetime(2025, 1, 10, tzinfo=UTC).timestamp() * 1000)
LAST = 2024 * 12 + 11  # 2024-12
_COUNT = iter(range(1 << 60))


def new_id() -> bytes:
    return new_report_id(NOW, next(_COUNT).to_bytes(10, "big"))


def report(
    value: float,
    period: str = "2024-12",
    *,
    kind: int = pb.INDICATOR_KIND_PRICE,
    market: int = pb.MARKET_WORLD,
    unit: str = "KGM",
    currency: str = "USD",
    hs: str = "811292",
    place: str = "",
    origin: str = "",
    grade: tuple[int, int] = (1, 1),
) -> pb.Report:
    out = pb.Report(
        id=new_id(),
        subject=pb.Subject(hs=hs, item="gallium", stage=pb.STAGE_MATERIAL),
        level=pb.STATUS_LEVEL_WATCH,
        indicators=[pb.Indicator(kind=kind, market=market, value=value, unit=unit, currency=currency, period=period)],
    )
    if place:
        out.place.country = place
    if origin:
        out.sources.add(name=origin, origin=origin, reliability=grade[0], credibility=grade[1])
    return out


def stock(value: float, period: str = "2024-12", **more: object) -> pb.Report:
    return report(value, period, **{"kind": pb.INDICATOR_KIND_STOCK, "market": 0, "currency": "", **more})  # type: ignore[arg-type]


def imports(value: float, period: str = "2024-12", **more: object) -> pb.Report:
    given = {"kind": pb.INDICATOR_KIND_IMPORTS, "market": 0, "currency": "", **more}
    return report(value, period, **given)  # type: ignore[arg-type]


def tell(board: Board, one: pb.Report, *, sender: str = "nl.seoul/economic", at: int = NOW) -> Update:
    return board.take(one, sender=sender, received_ms=at, now_ms=at)


def tell_months(board: Board, values: Sequence[float | None], make: object, *, sender: str, **more: object) -> Group:
    """One report a month, the last one LAST; None = none that month."""
    touched: dict[Group, None] = {}
    for back, value in enumerate(reversed(values)):
        if value is not None:
            month = LAST - back
            one = make(value, month_text(month), **more)  # type: ignore[operator]
            update = tell(board, one, sender=sender, at=NOW - 1)
            assert not [n for n in update.notices if n.kind.value == "refused"], update.notices
            touched |= dict.fromkeys(update.groups)
    assert len(touched) == 1
    return next(iter(touched))


def in_month_ms(number: int) -> int:
    return month_start_ms(number) + 9 * 86_400_000
