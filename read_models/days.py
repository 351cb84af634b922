"""Which day something belongs to: days begin and end in the time zone that the shop is set to."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from amends.settings import Settings

__all__ = ["MADE_WITH", "TIME_ZONE", "day_of"]

TIME_ZONE = ZoneInfo(Settings().time_zone)
"""Where the days of all figures begin and end; another one makes other rows of the same events."""

MADE_WITH = {"time_zone": TIME_ZONE.key}
"""What projections are made with that count days."""


def day_of(moment: datetime) -> date:
    """The day of a moment.

    Args:
        moment: with its time zone, whichever that is.
    """
    return moment.astimezone(TIME_ZONE).date()
