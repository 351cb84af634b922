"""Logging: what a process says reaches whoever listens at that moment."""

import io
import logging
from contextlib import redirect_stderr

import structlog


def test_given_a_logger_used_while_errors_went_elsewhere_when_that_is_closed_then_it_goes_on() -> None:
    log, plain = structlog.get_logger("amends.test"), logging.getLogger("plain.test")
    with redirect_stderr(io.StringIO()) as pager:
        log.warning("first")
        plain.warning("first, plainly")
    assert "first" in pager.getvalue()
    assert "first, plainly" in pager.getvalue()
    pager.close()
    with redirect_stderr(io.StringIO()) as heard:
        log.warning("second")
        plain.warning("second, plainly")
    assert '"event": "second"' in heard.getvalue()
    assert "second, plainly" in heard.getvalue()
    assert "Logging error" not in heard.getvalue()
