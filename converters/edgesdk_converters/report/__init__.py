"""The report of a release: `report.json` for programs, `report.html` for people, made from the same plain data."""

from __future__ import annotations

from edgesdk_converters.report.data import REFUSAL_SCHEMA, REPORT_NAME, REPORT_SCHEMA, make_refusal, make_report
from edgesdk_converters.report.page import PAGE_NAME, render

__all__ = [
    "PAGE_NAME",
    "REFUSAL_SCHEMA",
    "REPORT_NAME",
    "REPORT_SCHEMA",
    "make_refusal",
    "make_report",
    "render",
]
