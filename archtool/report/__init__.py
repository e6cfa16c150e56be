"""One data model, drawn as a page, a terminal summary, JSON, CSV and a model card.

A run fills a `Report`; `write_report` puts it into the run's folder; `render` draws the page again from
``metrics.json``. Nothing here measures, and nothing here prints.
"""

from archtool.report.card import model_card
from archtool.report.codec import dumps, loads, to_dict
from archtool.report.data import (
    BudgetCheck,
    Candidate,
    Command,
    ExportCheck,
    LatencySample,
    LayerRow,
    Metric,
    PredictedPair,
    Prediction,
    Provenance,
    Report,
    Search,
    Skipped,
    Snapshot,
    StepRecord,
    TensorRow,
    latency_sample,
)
from archtool.report.derive import derived
from archtool.report.folder import read_report, render, write_report
from archtool.report.page import render_html
from archtool.report.panels import ENTRY_POINT_GROUP, Panel, panels
from archtool.report.rows import to_csv
from archtool.report.terminal import summary
from archtool.report.verdict import verdict

__all__ = [
    "ENTRY_POINT_GROUP",
    "BudgetCheck",
    "Candidate",
    "Command",
    "ExportCheck",
    "LatencySample",
    "LayerRow",
    "Metric",
    "Panel",
    "PredictedPair",
    "Prediction",
    "Provenance",
    "Report",
    "Search",
    "Skipped",
    "Snapshot",
    "StepRecord",
    "TensorRow",
    "derived",
    "dumps",
    "latency_sample",
    "loads",
    "model_card",
    "panels",
    "read_report",
    "render",
    "render_html",
    "summary",
    "to_csv",
    "to_dict",
    "verdict",
    "write_report",
]
