"""An alert for others' systems: CAP 1.2 XML, and the text of a notice under article 22 of the EU Chips Act.

Source: OASIS Common Alerting Protocol 1.2 (2010), section 3.2: elements and their order. Regulation (EU) 2023/1781.
"""

import uuid
import xml.etree.ElementTree as ET  # only writes: nothing from elsewhere is parsed
from datetime import UTC, datetime
from typing import Final

from exchange.report import to_dict
from exchange.report.alerts import CRISIS_POINTS
from exchange.text import clean
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import named
from exchange.watch.alerts_life import Chain, Heard
from keys.terms import MARKING_NAMES
from keys.v1 import documents_pb2 as docs

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
ALERT_ORDER: Final = (
    *("identifier", "sender", "sent", "status", "msgType", "source", "scope", "restriction", "addresses"),
    *("code", "note", "references", "incidents", "info"),
)
INFO_ORDER: Final = (
    *("language", "category", "event", "responseType", "urgency", "severity", "certainty", "audience", "eventCode"),
    *("effective", "onset", "expires", "senderName", "headline", "description", "instruction", "web", "contact"),
    *("parameter", "resource", "area"),
)
_TYPES: Final = {
    pb.ALERT_TYPE_ALERT: "Alert",
    pb.ALERT_TYPE_UPDATE: "Update",
    pb.ALERT_TYPE_CANCEL: "Cancel",
    pb.ALERT_TYPE_ACK: "Ack",
}
_STATUS: Final = {
    pb.ALERT_STATUS_ACTUAL: "Actual",
    pb.ALERT_STATUS_EXERCISE: "Exercise",
    pb.ALERT_STATUS_TEST: "Test",
}


def _word(prefix: str, name: str) -> str:
    word = name.removeprefix(prefix)
    return "Unknown" if word == "UNSPECIFIED" else word.capitalize()


def _time(time_ms: int) -> str:
    # CAP forbids "Z": UTC is written -00:00.
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}-00:00"


def _put(parent: ET.Element, name: str, text: str) -> None:
    if text:
        ET.SubElement(parent, name).text = clean(text, max_chars=4000, lines=True)


def _sender(desk: str) -> str:
    """CAP allows neither spaces nor commas nor < and &."""
    return f"tocsin:{desk}"


def xml(chain: Chain, heard: Heard, alert: pb.Alert) -> bytes:
    """One message of a chain as CAP 1.2; its words are inert text.

    Args:
        chain: What it belongs to.
        heard: The message as it came.
        alert: What it says.
    """
    root = ET.Element("alert", xmlns=NAMESPACE)
    _put(root, "identifier", str(uuid.UUID(bytes=bytes(alert.id))))
    _put(root, "sender", _sender(heard.sender))
    _put(root, "sent", _time(heard.time_ms))
    _put(root, "status", _STATUS.get(alert.status, "Test"))
    _put(root, "msgType", _TYPES.get(alert.type, "Error"))
    marking = MARKING_NAMES.get(heard.marking, "RED")
    if heard.marking == docs.MARKING_CLEAR:
        _put(root, "scope", "Public")
    else:
        _put(root, "scope", "Restricted")
        _put(root, "restriction", f"TLP:{marking}")
    _put(root, "note", "; ".join(one.text for one in alert.note))
    _put(root, "references", " ".join(_reference(chain, one) for one in alert.references))
    if alert.type != pb.ALERT_TYPE_ACK:
        _info(root, heard, alert if alert.headline else chain.alert)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _reference(chain: Chain, one: pb.Reference) -> str:
    times = {bytes(heard.said.id): heard.time_ms for heard in (chain.root, *chain.said)}
    sent = _time(times.get(bytes(one.id), chain.root.time_ms))
    return f"{_sender(one.sender)},{uuid.UUID(bytes=bytes(one.id))},{sent}"


def _info(root: ET.Element, heard: Heard, alert: pb.Alert) -> None:
    for headline in alert.headline:
        info = ET.SubElement(root, "info")
        language = headline.language
        _put(info, "language", language)
        _put(info, "category", "Infra")
        _put(info, "event", f"supply of {named(alert.subject)}")
        _put(info, "responseType", "Assess")
        _put(info, "urgency", _word("URGENCY_", pb.Urgency.Name(alert.urgency)))
        _put(info, "severity", _word("SEVERITY_", pb.Severity.Name(alert.severity)))
        _put(info, "certainty", _word("CERTAINTY_", pb.Certainty.Name(alert.certainty)))
        _put(info, "effective", _time(alert.effective_time_ms))
        _put(info, "onset", _time(alert.onset_time_ms) if alert.onset_time_ms else "")
        _put(info, "expires", _time(alert.expire_time_ms))
        _put(info, "senderName", heard.sender)
        _put(info, "headline", headline.text[:160])
        for name, texts in (("description", alert.description), ("instruction", alert.instruction)):
            _put(info, name, next((one.text for one in texts if one.language == language), ""))
        _parameters(info, alert)
        for place in alert.areas or [pb.Place()]:
            area = ET.SubElement(info, "area")
            _put(area, "areaDesc", place.name or place.country or "the countries that read this")


def _parameters(info: ET.Element, alert: pb.Alert) -> None:
    said = {
        "hs": alert.subject.hs,
        "rules": " ".join(alert.rules),
        "cancelCondition": "; ".join(one.text for one in alert.cancel_condition),
        "needShare": f"{alert.need_share:.3f}" if alert.HasField("need_share") else "",
        "coverWeeks": f"{alert.cover_weeks:.1f}" if alert.HasField("cover_weeks") else "",
        "impactWeeks": f"{alert.impact_weeks:.1f}" if alert.HasField("impact_weeks") else "",
        "affectedSteps": "; ".join(alert.affected_steps),
    }
    if alert.HasField("crisis"):
        said |= {f"crisis.{name}": "; ".join(t.text for t in getattr(alert.crisis, name)) for name in CRISIS_POINTS}
    for name, value in said.items():
        if value:
            parameter = ET.SubElement(info, "parameter")
            _put(parameter, "valueName", f"tocsin.{name}")
            _put(parameter, "value", value)


def article_22(chain: Chain) -> str:
    """The alert as the text a member state hands to the Commission when it sees a serious disruption coming.

    What the alert does not say is left open in words, for a person to fill in.
    """
    alert = chain.alert
    crisis = to_dict(alert.crisis) if alert.HasField("crisis") else {}
    crisis_of = {name: "; ".join(texts.values()) for name, texts in crisis.items()}
    share = f"{alert.need_share:.0%} of need at risk" if alert.HasField("need_share") else "share of need not known"
    rows = (
        ("Subject", named(alert.subject)),
        (
            "Marking",
            f"TLP:{MARKING_NAMES.get(chain.current.marking, 'RED')}; status {_STATUS.get(alert.status, 'Test')}",
        ),
        ("What is seen", "; ".join(one.text for one in alert.headline)),
        ("Why", "\n  ".join(line for one in alert.description for line in one.text.split("\n"))),
        ("Impact", crisis_of.get("impact", share)),
        ("Cause", crisis_of.get("cause", "see above")),
        ("Expected duration", crisis_of.get("duration", "not known yet")),
        ("Sectors and steps", crisis_of.get("sectors", ", ".join(alert.affected_steps) or "not known yet")),
        ("Measures taken", crisis_of.get("measures", "to be filled in")),
        ("Help wanted", crisis_of.get("help", "to be filled in")),
        ("What would end it", "; ".join(one.text for one in alert.cancel_condition)),
        ("Evidence", f"{len(alert.evidence)} signed reports; alert {uuid.UUID(bytes=bytes(alert.id))}"),
    )
    title = "Early warning of a disruption in the semiconductor supply chain (Regulation (EU) 2023/1781, article 22)"
    return (
        title + "\n\n" + "\n".join(f"{name}: {clean(text, max_chars=8000, lines=True)}" for name, text in rows) + "\n"
    )
