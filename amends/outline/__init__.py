"""A process as its definition tells it: steps, undos, branches, loops, sub-processes; read from the source, not run.

What the source does not tell is kept as `Unclear` with its text; reading never fails.
"""

from amends.outline.model import (
    Arm,
    Block,
    Choice,
    End,
    Jump,
    Loop,
    Mount,
    Node,
    Outline,
    Part,
    Step,
    Together,
    Try,
    Unclear,
    Wait,
    walk,
)
from amends.outline.reader import outline

__all__ = [
    "Arm",
    "Block",
    "Choice",
    "End",
    "Jump",
    "Loop",
    "Mount",
    "Node",
    "Outline",
    "Part",
    "Step",
    "Together",
    "Try",
    "Unclear",
    "Wait",
    "outline",
    "walk",
]
