"""Change safety: whether this code may follow what has been released, in one verdict.

Histories of sagas replay, every event ever written can be read, read models that changed have a raised version, the
migrations make the schema they made, and the first release's database comes up to date with its data.
"""

from amends.checking.running import check
from amends.checking.verdict import Checked, Failure, Verdict

__all__ = ["Checked", "Failure", "Verdict", "check"]
