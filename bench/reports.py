"""The report every measurement carries: real in shape, the same length each time."""

from typing import Final

from exchange.v1 import report_pb2 as pb

REPORT_BYTES: Final = 396
"""Length of each encoded item: an ordinary price report with its source, in two languages."""

_START_MS: Final = 1_700_000_000_000


def report_item(index: int) -> bytes:
    """One encoded Item, REPORT_BYTES long, with a report that passes validation; each has its own id, value and time.

    Args:
        index: 0 <= index < 2**40; the same index gives the same bytes.
    """
    time_ms = _START_MS + index
    report = pb.Report(
        # UUIDv7: 48 bits of time, version, variant; the rest is the index, so that ids never repeat.
        id=time_ms.to_bytes(6) + b"\x70\x00\x80\x00" + index.to_bytes(6),
        subject=pb.Subject(hs="811292", item="gallium, 4N", stage=pb.STAGE_MATERIAL),
        place=pb.Place(country="CN", locode="CNSHA"),
        level=pb.STATUS_LEVEL_STRAINED,
        observe_time_ms=time_ms,
    )
    report.indicators.add(
        kind=pb.INDICATOR_KIND_PRICE,
        market=pb.MARKET_EXPORT,
        value=250.0 + index % 1000 / 8,
        unit="KGM",
        currency="USD",
        period="2023-11-14",
        baseline=241.5,
        baseline_note="mean of the 12 months before",
    )
    report.sources.add(
        name="Trade press",
        origin="example.org",
        reliability=pb.RELIABILITY_B,
        credibility=pb.CREDIBILITY_2,
        time_ms=time_ms,
    )
    report.summary.add(language="ko", text="갈륨 수출 허가가 늦어지고 있다.")
    text = "Export licences for gallium take longer than the statutory 45 days; "
    text += "offers for prompt delivery are few and dearer than they were last month"
    report.summary.add(language="en", text=text)
    item = pb.Item(report=report)
    # A dot is one byte, and the lengths around the text take two bytes before and after, so the sum comes out.
    report.summary[1].text += "." * (REPORT_BYTES - item.ByteSize())
    encoded = pb.Item(report=report).SerializeToString(deterministic=True)
    if len(encoded) != REPORT_BYTES:
        raise AssertionError(f"the benchmark's report has {len(encoded)} bytes instead of {REPORT_BYTES}")
    return encoded
