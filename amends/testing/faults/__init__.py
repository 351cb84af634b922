"""draft"""

from amends.testing.faults.bench import Bench
from amends.testing.faults.fault import Fault
from amends.testing.faults.scenario import Ended, Scenario, World
from amends.testing.faults.table import Case, FaultTable, Mount, Point

__all__ = ["Bench", "Case", "Ended", "Fault", "FaultTable", "Mount", "Point", "Scenario", "World"]
