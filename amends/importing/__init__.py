"""Coming from another system: its records become commands, from files and by following its tables."""

from amends.importing.records import Shown, SourceKey, SourceRecord, as_key

__all__ = ["Shown", "SourceKey", "SourceRecord", "as_key"]
