"""Logs: structured lines on standard error."""

from __future__ import annotations

import logging
import sys

import structlog

from gateway.settings import Settings


def set_up_logs(settings: Settings) -> None:
    """JSON, or for people in development."""
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if settings.development else structlog.processors.JSONRenderer()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
