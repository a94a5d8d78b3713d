"""The report of a run: one self-contained HTML file.

from pipelines.reporting import build_report
"""

from pipelines.reporting.report import build_report

__all__ = ["build_report"]
