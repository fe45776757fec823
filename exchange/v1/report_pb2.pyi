from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_MINERAL: _ClassVar[Stage]
    STAGE_MATERIAL: _ClassVar[Stage]
    STAGE_WAFER: _ClassVar[Stage]
    STAGE_EQUIPMENT: _ClassVar[Stage]
    STAGE_CHIP: _ClassVar[Stage]
    STAGE_PACKAGING: _ClassVar[Stage]

class StatusLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_LEVEL_UNSPECIFIED: _ClassVar[StatusLevel]
    STATUS_LEVEL_NORMAL: _ClassVar[StatusLevel]
    STATUS_LEVEL_WATCH: _ClassVar[StatusLevel]
    STATUS_LEVEL_STRAINED: _ClassVar[StatusLevel]
    STATUS_LEVEL_DISRUPTED: _ClassVar[StatusLevel]
    STATUS_LEVEL_HALTED: _ClassVar[StatusLevel]

class IndicatorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDICATOR_KIND_UNSPECIFIED: _ClassVar[IndicatorKind]
    INDICATOR_KIND_PRICE: _ClassVar[IndicatorKind]
    INDICATOR_KIND_STOCK: _ClassVar[IndicatorKind]
    INDICATOR_KIND_COVER: _ClassVar[IndicatorKind]
    INDICATOR_KIND_OUTPUT: _ClassVar[IndicatorKind]
    INDICATOR_KIND_CAPACITY: _ClassVar[IndicatorKind]
    INDICATOR_KIND_UTILISATION: _ClassVar[IndicatorKind]
    INDICATOR_KIND_IMPORTS: _ClassVar[IndicatorKind]
    INDICATOR_KIND_EXPORTS: _ClassVar[IndicatorKind]
    INDICATOR_KIND_ORDERS: _ClassVar[IndicatorKind]
    INDICATOR_KIND_DEMAND: _ClassVar[IndicatorKind]
    INDICATOR_KIND_LEAD_TIME: _ClassVar[IndicatorKind]
    INDICATOR_KIND_TRANSIT_TIME: _ClassVar[IndicatorKind]
    INDICATOR_KIND_SUPPLIER_SHARE: _ClassVar[IndicatorKind]
    INDICATOR_KIND_CONCENTRATION: _ClassVar[IndicatorKind]

class Market(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKET_UNSPECIFIED: _ClassVar[Market]
    MARKET_DOMESTIC: _ClassVar[Market]
    MARKET_EXPORT: _ClassVar[Market]
    MARKET_IMPORT: _ClassVar[Market]
    MARKET_WORLD: _ClassVar[Market]

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_EXPORT_CONTROL: _ClassVar[EventKind]
    EVENT_KIND_EXPORT_BAN: _ClassVar[EventKind]
    EVENT_KIND_EXPORT_RESTRICTION: _ClassVar[EventKind]
    EVENT_KIND_SANCTIONS: _ClassVar[EventKind]
    EVENT_KIND_OUTAGE: _ClassVar[EventKind]
    EVENT_KIND_DISASTER: _ClassVar[EventKind]
    EVENT_KIND_LOGISTICS: _ClassVar[EventKind]
    EVENT_KIND_CONFLICT: _ClassVar[EventKind]
    EVENT_KIND_PRODUCTION_CURB: _ClassVar[EventKind]
    EVENT_KIND_DEMAND_SURGE: _ClassVar[EventKind]
    EVENT_KIND_LABOUR: _ClassVar[EventKind]
    EVENT_KIND_CORPORATE: _ClassVar[EventKind]
    EVENT_KIND_CYBER: _ClassVar[EventKind]
    EVENT_KIND_EASING: _ClassVar[EventKind]

class Reliability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELIABILITY_UNSPECIFIED: _ClassVar[Reliability]
    RELIABILITY_A: _ClassVar[Reliability]
    RELIABILITY_B: _ClassVar[Reliability]
    RELIABILITY_C: _ClassVar[Reliability]
    RELIABILITY_D: _ClassVar[Reliability]
    RELIABILITY_E: _ClassVar[Reliability]
    RELIABILITY_F: _ClassVar[Reliability]

class Credibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CREDIBILITY_UNSPECIFIED: _ClassVar[Credibility]
    CREDIBILITY_1: _ClassVar[Credibility]
    CREDIBILITY_2: _ClassVar[Credibility]
    CREDIBILITY_3: _ClassVar[Credibility]
    CREDIBILITY_4: _ClassVar[Credibility]
    CREDIBILITY_5: _ClassVar[Credibility]
    CREDIBILITY_6: _ClassVar[Credibility]

class AlertType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALERT_TYPE_UNSPECIFIED: _ClassVar[AlertType]
    ALERT_TYPE_ALERT: _ClassVar[AlertType]
    ALERT_TYPE_UPDATE: _ClassVar[AlertType]
    ALERT_TYPE_CANCEL: _ClassVar[AlertType]
    ALERT_TYPE_ACK: _ClassVar[AlertType]

class AlertStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALERT_STATUS_UNSPECIFIED: _ClassVar[AlertStatus]
    ALERT_STATUS_ACTUAL: _ClassVar[AlertStatus]
    ALERT_STATUS_EXERCISE: _ClassVar[AlertStatus]
    ALERT_STATUS_TEST: _ClassVar[AlertStatus]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_MINOR: _ClassVar[Severity]
    SEVERITY_MODERATE: _ClassVar[Severity]
    SEVERITY_SEVERE: _ClassVar[Severity]
    SEVERITY_EXTREME: _ClassVar[Severity]

class Urgency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    URGENCY_UNSPECIFIED: _ClassVar[Urgency]
    URGENCY_PAST: _ClassVar[Urgency]
    URGENCY_FUTURE: _ClassVar[Urgency]
    URGENCY_EXPECTED: _ClassVar[Urgency]
    URGENCY_IMMEDIATE: _ClassVar[Urgency]

class Certainty(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CERTAINTY_UNSPECIFIED: _ClassVar[Certainty]
    CERTAINTY_UNLIKELY: _ClassVar[Certainty]
    CERTAINTY_POSSIBLE: _ClassVar[Certainty]
    CERTAINTY_LIKELY: _ClassVar[Certainty]
    CERTAINTY_OBSERVED: _ClassVar[Certainty]

class AlertStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALERT_STEP_UNSPECIFIED: _ClassVar[AlertStep]
    ALERT_STEP_ESCALATED: _ClassVar[AlertStep]
    ALERT_STEP_RESOLVED: _ClassVar[AlertStep]
    ALERT_STEP_FALSE_ALARM: _ClassVar[AlertStep]

class ConsultationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSULTATION_KIND_UNSPECIFIED: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_REQUEST: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_MESSAGE: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_PROPOSAL: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_AGREEMENT: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_REFUSAL: _ClassVar[ConsultationKind]
    CONSULTATION_KIND_CLOSE: _ClassVar[ConsultationKind]
STAGE_UNSPECIFIED: Stage
STAGE_MINERAL: Stage
STAGE_MATERIAL: Stage
STAGE_WAFER: Stage
STAGE_EQUIPMENT: Stage
STAGE_CHIP: Stage
STAGE_PACKAGING: Stage
STATUS_LEVEL_UNSPECIFIED: StatusLevel
STATUS_LEVEL_NORMAL: StatusLevel
STATUS_LEVEL_WATCH: StatusLevel
STATUS_LEVEL_STRAINED: StatusLevel
STATUS_LEVEL_DISRUPTED: StatusLevel
STATUS_LEVEL_HALTED: StatusLevel
INDICATOR_KIND_UNSPECIFIED: IndicatorKind
INDICATOR_KIND_PRICE: IndicatorKind
INDICATOR_KIND_STOCK: IndicatorKind
INDICATOR_KIND_COVER: IndicatorKind
INDICATOR_KIND_OUTPUT: IndicatorKind
INDICATOR_KIND_CAPACITY: IndicatorKind
INDICATOR_KIND_UTILISATION: IndicatorKind
INDICATOR_KIND_IMPORTS: IndicatorKind
INDICATOR_KIND_EXPORTS: IndicatorKind
INDICATOR_KIND_ORDERS: IndicatorKind
INDICATOR_KIND_DEMAND: IndicatorKind
INDICATOR_KIND_LEAD_TIME: IndicatorKind
INDICATOR_KIND_TRANSIT_TIME: IndicatorKind
INDICATOR_KIND_SUPPLIER_SHARE: IndicatorKind
INDICATOR_KIND_CONCENTRATION: IndicatorKind
MARKET_UNSPECIFIED: Market
MARKET_DOMESTIC: Market
MARKET_EXPORT: Market
MARKET_IMPORT: Market
MARKET_WORLD: Market
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_EXPORT_CONTROL: EventKind
EVENT_KIND_EXPORT_BAN: EventKind
EVENT_KIND_EXPORT_RESTRICTION: EventKind
EVENT_KIND_SANCTIONS: EventKind
EVENT_KIND_OUTAGE: EventKind
EVENT_KIND_DISASTER: EventKind
EVENT_KIND_LOGISTICS: EventKind
EVENT_KIND_CONFLICT: EventKind
EVENT_KIND_PRODUCTION_CURB: EventKind
EVENT_KIND_DEMAND_SURGE: EventKind
EVENT_KIND_LABOUR: EventKind
EVENT_KIND_CORPORATE: EventKind
EVENT_KIND_CYBER: EventKind
EVENT_KIND_EASING: EventKind
RELIABILITY_UNSPECIFIED: Reliability
RELIABILITY_A: Reliability
RELIABILITY_B: Reliability
RELIABILITY_C: Reliability
RELIABILITY_D: Reliability
RELIABILITY_E: Reliability
RELIABILITY_F: Reliability
CREDIBILITY_UNSPECIFIED: Credibility
CREDIBILITY_1: Credibility
CREDIBILITY_2: Credibility
CREDIBILITY_3: Credibility
CREDIBILITY_4: Credibility
CREDIBILITY_5: Credibility
CREDIBILITY_6: Credibility
ALERT_TYPE_UNSPECIFIED: AlertType
ALERT_TYPE_ALERT: AlertType
ALERT_TYPE_UPDATE: AlertType
ALERT_TYPE_CANCEL: AlertType
ALERT_TYPE_ACK: AlertType
ALERT_STATUS_UNSPECIFIED: AlertStatus
ALERT_STATUS_ACTUAL: AlertStatus
ALERT_STATUS_EXERCISE: AlertStatus
ALERT_STATUS_TEST: AlertStatus
SEVERITY_UNSPECIFIED: Severity
SEVERITY_MINOR: Severity
SEVERITY_MODERATE: Severity
SEVERITY_SEVERE: Severity
SEVERITY_EXTREME: Severity
URGENCY_UNSPECIFIED: Urgency
URGENCY_PAST: Urgency
URGENCY_FUTURE: Urgency
URGENCY_EXPECTED: Urgency
URGENCY_IMMEDIATE: Urgency
CERTAINTY_UNSPECIFIED: Certainty
CERTAINTY_UNLIKELY: Certainty
CERTAINTY_POSSIBLE: Certainty
CERTAINTY_LIKELY: Certainty
CERTAINTY_OBSERVED: Certainty
ALERT_STEP_UNSPECIFIED: AlertStep
ALERT_STEP_ESCALATED: AlertStep
ALERT_STEP_RESOLVED: AlertStep
ALERT_STEP_FALSE_ALARM: AlertStep
CONSULTATION_KIND_UNSPECIFIED: ConsultationKind
CONSULTATION_KIND_REQUEST: ConsultationKind
CONSULTATION_KIND_MESSAGE: ConsultationKind
CONSULTATION_KIND_PROPOSAL: ConsultationKind
CONSULTATION_KIND_AGREEMENT: ConsultationKind
CONSULTATION_KIND_REFUSAL: ConsultationKind
CONSULTATION_KIND_CLOSE: ConsultationKind

class Item(_message.Message):
    __slots__ = ("report", "alert", "consultation", "acknowledgement", "heartbeat", "closing", "refusal", "reshare")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    ALERT_FIELD_NUMBER: _ClassVar[int]
    CONSULTATION_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RESHARE_FIELD_NUMBER: _ClassVar[int]
    report: Report
    alert: Alert
    consultation: Consultation
    acknowledgement: Acknowledgement
    heartbeat: Heartbeat
    closing: Closing
    refusal: Refusal
    reshare: Reshare
    def __init__(self, report: _Optional[_Union[Report, _Mapping]] = ..., alert: _Optional[_Union[Alert, _Mapping]] = ..., consultation: _Optional[_Union[Consultation, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., closing: _Optional[_Union[Closing, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., reshare: _Optional[_Union[Reshare, _Mapping]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("id", "subject", "place", "level", "indicators", "events", "sources", "summary", "attachments", "observe_time_ms", "supersedes", "withdraws", "companies")
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDICATORS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDES_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWS_FIELD_NUMBER: _ClassVar[int]
    COMPANIES_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    subject: Subject
    place: Place
    level: StatusLevel
    indicators: _containers.RepeatedCompositeFieldContainer[Indicator]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    summary: _containers.RepeatedCompositeFieldContainer[Text]
    attachments: _containers.RepeatedCompositeFieldContainer[Attachment]
    observe_time_ms: int
    supersedes: _containers.RepeatedScalarFieldContainer[bytes]
    withdraws: _containers.RepeatedScalarFieldContainer[bytes]
    companies: _containers.RepeatedCompositeFieldContainer[Company]
    def __init__(self, id: _Optional[bytes] = ..., subject: _Optional[_Union[Subject, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., level: _Optional[_Union[StatusLevel, str]] = ..., indicators: _Optional[_Iterable[_Union[Indicator, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ..., summary: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., attachments: _Optional[_Iterable[_Union[Attachment, _Mapping]]] = ..., observe_time_ms: _Optional[int] = ..., supersedes: _Optional[_Iterable[bytes]] = ..., withdraws: _Optional[_Iterable[bytes]] = ..., companies: _Optional[_Iterable[_Union[Company, _Mapping]]] = ...) -> None: ...

class Company(_message.Message):
    __slots__ = ("lei", "name")
    LEI_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    lei: str
    name: str
    def __init__(self, lei: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Subject(_message.Message):
    __slots__ = ("hs", "hs_country", "item", "stage")
    HS_FIELD_NUMBER: _ClassVar[int]
    HS_COUNTRY_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    hs: str
    hs_country: str
    item: str
    stage: Stage
    def __init__(self, hs: _Optional[str] = ..., hs_country: _Optional[str] = ..., item: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("country", "locode", "name")
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    LOCODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    country: str
    locode: str
    name: str
    def __init__(self, country: _Optional[str] = ..., locode: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Indicator(_message.Message):
    __slots__ = ("kind", "market", "value", "unit", "currency", "period", "baseline", "baseline_note", "estimate", "publication_lag_days")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_NOTE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_LAG_DAYS_FIELD_NUMBER: _ClassVar[int]
    kind: IndicatorKind
    market: Market
    value: float
    unit: str
    currency: str
    period: str
    baseline: float
    baseline_note: str
    estimate: bool
    publication_lag_days: int
    def __init__(self, kind: _Optional[_Union[IndicatorKind, str]] = ..., market: _Optional[_Union[Market, str]] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., currency: _Optional[str] = ..., period: _Optional[str] = ..., baseline: _Optional[float] = ..., baseline_note: _Optional[str] = ..., estimate: _Optional[bool] = ..., publication_lag_days: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("kind", "public_date", "start_date", "end_date", "actors", "affected", "hs", "description", "reference", "companies")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_DATE_FIELD_NUMBER: _ClassVar[int]
    START_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_FIELD_NUMBER: _ClassVar[int]
    HS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    COMPANIES_FIELD_NUMBER: _ClassVar[int]
    kind: EventKind
    public_date: str
    start_date: str
    end_date: str
    actors: _containers.RepeatedScalarFieldContainer[str]
    affected: _containers.RepeatedScalarFieldContainer[str]
    hs: _containers.RepeatedScalarFieldContainer[str]
    description: _containers.RepeatedCompositeFieldContainer[Text]
    reference: str
    companies: _containers.RepeatedCompositeFieldContainer[Company]
    def __init__(self, kind: _Optional[_Union[EventKind, str]] = ..., public_date: _Optional[str] = ..., start_date: _Optional[str] = ..., end_date: _Optional[str] = ..., actors: _Optional[_Iterable[str]] = ..., affected: _Optional[_Iterable[str]] = ..., hs: _Optional[_Iterable[str]] = ..., description: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., reference: _Optional[str] = ..., companies: _Optional[_Iterable[_Union[Company, _Mapping]]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("name", "origin", "reliability", "credibility", "url", "time_ms", "credit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    RELIABILITY_FIELD_NUMBER: _ClassVar[int]
    CREDIBILITY_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: str
    reliability: Reliability
    credibility: Credibility
    url: str
    time_ms: int
    credit: str
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[str] = ..., reliability: _Optional[_Union[Reliability, str]] = ..., credibility: _Optional[_Union[Credibility, str]] = ..., url: _Optional[str] = ..., time_ms: _Optional[int] = ..., credit: _Optional[str] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("language", "text")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    language: str
    text: str
    def __init__(self, language: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Attachment(_message.Message):
    __slots__ = ("digest", "key", "size", "media_type", "name")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    key: bytes
    size: int
    media_type: str
    name: str
    def __init__(self, digest: _Optional[bytes] = ..., key: _Optional[bytes] = ..., size: _Optional[int] = ..., media_type: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("sender", "id", "digest")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    sender: str
    id: bytes
    digest: bytes
    def __init__(self, sender: _Optional[str] = ..., id: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("id", "type", "status", "references", "subject", "severity", "urgency", "certainty", "effective_time_ms", "onset_time_ms", "expire_time_ms", "areas", "headline", "description", "instruction", "cancel_condition", "evidence", "need_share", "probability", "cover_weeks", "impact_weeks", "rules", "annex_version", "affected_steps", "crisis", "step", "note", "basis")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    URGENCY_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ONSET_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AREAS_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    CANCEL_CONDITION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    NEED_SHARE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    COVER_WEEKS_FIELD_NUMBER: _ClassVar[int]
    IMPACT_WEEKS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    ANNEX_VERSION_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_STEPS_FIELD_NUMBER: _ClassVar[int]
    CRISIS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    type: AlertType
    status: AlertStatus
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    subject: Subject
    severity: Severity
    urgency: Urgency
    certainty: Certainty
    effective_time_ms: int
    onset_time_ms: int
    expire_time_ms: int
    areas: _containers.RepeatedCompositeFieldContainer[Place]
    headline: _containers.RepeatedCompositeFieldContainer[Text]
    description: _containers.RepeatedCompositeFieldContainer[Text]
    instruction: _containers.RepeatedCompositeFieldContainer[Text]
    cancel_condition: _containers.RepeatedCompositeFieldContainer[Text]
    evidence: _containers.RepeatedCompositeFieldContainer[Reference]
    need_share: float
    probability: float
    cover_weeks: float
    impact_weeks: float
    rules: _containers.RepeatedScalarFieldContainer[str]
    annex_version: int
    affected_steps: _containers.RepeatedScalarFieldContainer[str]
    crisis: Crisis
    step: AlertStep
    note: _containers.RepeatedCompositeFieldContainer[Text]
    basis: Basis
    def __init__(self, id: _Optional[bytes] = ..., type: _Optional[_Union[AlertType, str]] = ..., status: _Optional[_Union[AlertStatus, str]] = ..., references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., subject: _Optional[_Union[Subject, _Mapping]] = ..., severity: _Optional[_Union[Severity, str]] = ..., urgency: _Optional[_Union[Urgency, str]] = ..., certainty: _Optional[_Union[Certainty, str]] = ..., effective_time_ms: _Optional[int] = ..., onset_time_ms: _Optional[int] = ..., expire_time_ms: _Optional[int] = ..., areas: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., headline: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., description: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., instruction: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., cancel_condition: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., evidence: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., need_share: _Optional[float] = ..., probability: _Optional[float] = ..., cover_weeks: _Optional[float] = ..., impact_weeks: _Optional[float] = ..., rules: _Optional[_Iterable[str]] = ..., annex_version: _Optional[int] = ..., affected_steps: _Optional[_Iterable[str]] = ..., crisis: _Optional[_Union[Crisis, _Mapping]] = ..., step: _Optional[_Union[AlertStep, str]] = ..., note: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., basis: _Optional[_Union[Basis, _Mapping]] = ...) -> None: ...

class Basis(_message.Message):
    __slots__ = ("indicator", "market", "screen", "period", "pooled", "reporter", "known_until_ms", "hs")
    INDICATOR_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SCREEN_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    POOLED_FIELD_NUMBER: _ClassVar[int]
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    KNOWN_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    HS_FIELD_NUMBER: _ClassVar[int]
    indicator: IndicatorKind
    market: Market
    screen: str
    period: str
    pooled: bool
    reporter: str
    known_until_ms: int
    hs: str
    def __init__(self, indicator: _Optional[_Union[IndicatorKind, str]] = ..., market: _Optional[_Union[Market, str]] = ..., screen: _Optional[str] = ..., period: _Optional[str] = ..., pooled: _Optional[bool] = ..., reporter: _Optional[str] = ..., known_until_ms: _Optional[int] = ..., hs: _Optional[str] = ...) -> None: ...

class Crisis(_message.Message):
    __slots__ = ("impact", "cause", "duration", "sectors", "measures", "help")
    IMPACT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SECTORS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    impact: _containers.RepeatedCompositeFieldContainer[Text]
    cause: _containers.RepeatedCompositeFieldContainer[Text]
    duration: _containers.RepeatedCompositeFieldContainer[Text]
    sectors: _containers.RepeatedCompositeFieldContainer[Text]
    measures: _containers.RepeatedCompositeFieldContainer[Text]
    help: _containers.RepeatedCompositeFieldContainer[Text]
    def __init__(self, impact: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., cause: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., duration: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., sectors: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., measures: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., help: _Optional[_Iterable[_Union[Text, _Mapping]]] = ...) -> None: ...

class Consultation(_message.Message):
    __slots__ = ("id", "thread", "in_reply_to", "kind", "topic", "body", "references", "attachments", "answer_by_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    THREAD_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BY_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    thread: bytes
    in_reply_to: bytes
    kind: ConsultationKind
    topic: _containers.RepeatedCompositeFieldContainer[Text]
    body: _containers.RepeatedCompositeFieldContainer[Text]
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    attachments: _containers.RepeatedCompositeFieldContainer[Attachment]
    answer_by_ms: int
    def __init__(self, id: _Optional[bytes] = ..., thread: _Optional[bytes] = ..., in_reply_to: _Optional[bytes] = ..., kind: _Optional[_Union[ConsultationKind, str]] = ..., topic: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., body: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., attachments: _Optional[_Iterable[_Union[Attachment, _Mapping]]] = ..., answer_by_ms: _Optional[int] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("envelope", "time_ms")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    time_ms: int
    def __init__(self, envelope: _Optional[bytes] = ..., time_ms: _Optional[int] = ...) -> None: ...

class StreamHead(_message.Message):
    __slots__ = ("stream", "seq", "id")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    stream: bytes
    seq: int
    id: bytes
    def __init__(self, stream: _Optional[bytes] = ..., seq: _Optional[int] = ..., id: _Optional[bytes] = ...) -> None: ...

class LogHead(_message.Message):
    __slots__ = ("origin", "size", "root")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    size: int
    root: bytes
    def __init__(self, origin: _Optional[str] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("streams", "logs", "next_by_ms")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BY_MS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamHead]
    logs: _containers.RepeatedCompositeFieldContainer[LogHead]
    next_by_ms: int
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamHead, _Mapping]]] = ..., logs: _Optional[_Iterable[_Union[LogHead, _Mapping]]] = ..., next_by_ms: _Optional[int] = ...) -> None: ...

class Closing(_message.Message):
    __slots__ = ("stream", "last_seq", "continued_by")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_BY_FIELD_NUMBER: _ClassVar[int]
    stream: bytes
    last_seq: int
    continued_by: bytes
    def __init__(self, stream: _Optional[bytes] = ..., last_seq: _Optional[int] = ..., continued_by: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("envelope", "rule", "text", "time_ms")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    rule: str
    text: str
    time_ms: int
    def __init__(self, envelope: _Optional[bytes] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class Reshare(_message.Message):
    __slots__ = ("envelope", "wraps_digest", "ciphertext_digest", "ciphertext_length", "item_count", "items")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    WRAPS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    wraps_digest: bytes
    ciphertext_digest: bytes
    ciphertext_length: int
    item_count: int
    items: _containers.RepeatedCompositeFieldContainer[ResharedItem]
    def __init__(self, envelope: _Optional[bytes] = ..., wraps_digest: _Optional[bytes] = ..., ciphertext_digest: _Optional[bytes] = ..., ciphertext_length: _Optional[int] = ..., item_count: _Optional[int] = ..., items: _Optional[_Iterable[_Union[ResharedItem, _Mapping]]] = ...) -> None: ...

class ResharedItem(_message.Message):
    __slots__ = ("index", "salt", "item", "proof")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    index: int
    salt: bytes
    item: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, index: _Optional[int] = ..., salt: _Optional[bytes] = ..., item: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...
