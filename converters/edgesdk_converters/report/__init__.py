"""The report of a release: `report.json` for programs, `report.html` for people, made from the same plain data."""

from __future__ import annotations

from edgesdk_converters.report.data import REPORT_NAME, REPORT_SCHEMA, make_report
from edgesdk_converters.report.page import PAGE_NAME, render

__all__ = ["PAGE_NAME", "REPORT_NAME", "REPORT_SCHEMA", "make_report", "render"]
