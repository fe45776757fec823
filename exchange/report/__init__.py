"""Reports: what is said about supply; made, checked, cleaned, read from files (docs/PROTOCOL.md section 10).

`problems` is in rules, `validate` and `encode` in plain, `clean_report` in cleaning, `to_dict` and `from_dict` in shape,
files: readers.
"""

from exchange.report.alerts import alert_problems, validate_alert
from exchange.report.cleaning import clean_message, clean_report
from exchange.report.faults import Problem, ReportError, RowError, RowErrors
from exchange.report.plain import encode, validate
from exchange.report.readers import read_csv, read_json, read_json_lines
from exchange.report.rules import (
    MAX_REPORT_BYTES,
    new_report_id,
    problems,
)
from exchange.report.shape import from_dict, to_dict

__all__ = [
    "MAX_REPORT_BYTES",
    "Problem",
    "ReportError",
    "RowError",
    "RowErrors",
    "alert_problems",
    "clean_message",
    "clean_report",
    "encode",
    "from_dict",
    "new_report_id",
    "problems",
    "read_csv",
    "read_json",
    "read_json_lines",
    "to_dict",
    "validate",
    "validate_alert",
]
