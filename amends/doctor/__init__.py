"""Whether an installation is well, and what disagrees after a restore: looks, says what to do, changes nothing."""

from amends.doctor.examination import examine
from amends.doctor.finding import Finding, Health
from amends.doctor.reconciling import Disagreement, reconcile

__all__ = ["Disagreement", "Finding", "Health", "examine", "reconcile"]
