"""The report of a search: one HTML page and its charts."""

from sase_attn.search.report.page import write_report as write_report
