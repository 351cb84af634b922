"""Draws an outline as a mermaid flowchart: the way forward, the way back, and how it can end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from amends.outcomes import SagaUndone
from amends.outline import (
    Arm,
    Block,
    Choice,
    End,
    Jump,
    Loop,
    Mount,
    Outline,
    Part,
    Step,
    Together,
    Try,
    Unclear,
    Wait,
    walk,
)

__all__ = ["mermaid"]

LONGEST = 70
"""Longer conditions and source texts are cut."""

DONE, UNDONE, PARKED = "completed", "compensated", "attention"

ENDS = {DONE: "Completed", UNDONE: "Compensated", PARKED: "NeedsAttention: it can only go forward"}
"""How it can end or, in the last case, stand still until somebody decides."""

STYLES = (
    "    classDef undo stroke-dasharray:4 3",
    "    classDef pivot stroke-width:3px",
    "    classDef end_ stroke-width:2px",
)
"""How the kinds of nodes look; colours are the page's."""


def mermaid(outline: Outline) -> str:
    """A flowchart of a process: solid lines go forward, dotted ones are what happens when a step fails.

    The undos hang together newest first; a failed step leads to the newest one that may have been registered by then.

    Args:
        outline: what to draw.
    """
    drawing = _Drawing()
    start = drawing.node("start", f'(["{text(outline.process)}{_within(outline)}"])')
    at = drawing.block(outline.body, _At((_Edge(start),), (UNDONE,)))
    drawing.join(DONE, (*at.edges, *drawing.returns[-1]))
    for name, told in ENDS.items():
        if name in drawing.ends:
            drawing.line(f'{name}(["{told}"]):::end_')
    return "\n".join(["flowchart TD", *drawing.lines, *drawing.edges, *STYLES, ""])


@dataclass(frozen=True, slots=True)
class _Edge:
    """A line that waits for the node it leads to."""

    origin: str
    label: str = ""
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class _At:
    """How far the drawing has come on one way.

    Args:
        edges: what leads to the next node; none where the story has ended.
        undos: the newest undos that may be registered, one for each way that leads here.
        forward: past the pivot.
        repeated: inside a loop, so that an undo stands for many.
    """

    edges: tuple[_Edge, ...]
    undos: tuple[str, ...]
    forward: bool = False
    repeated: bool = False


@dataclass(slots=True)
class _Drawing:
    """The lines so far, and where edges that leave something wait for its end.

    Args:
        lines: nodes and groups.
        edges: apart from them, for mermaid puts a node into whatever group names it first.
        returns, breaks, turns: what has left the parts, loops and turns of loops around here.
        failing: the steps side by side that may have failed, when that is answered once all have ended.
        ends: the final states that are come to.
    """

    lines: list[str] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    depth: int = 1
    count: int = 0
    returns: list[list[_Edge]] = field(default_factory=lambda: [[]])
    breaks: list[list[_Edge]] = field(default_factory=list)
    turns: list[list[_Edge]] = field(default_factory=list)
    failing: list[list[str]] = field(default_factory=list)
    ends: set[str] = field(default_factory=set)

    # lines

    def line(self, content: str) -> None:
        self.lines.append("    " * self.depth + content)

    def node(self, name: str, shape: str) -> str:
        self.line(name + shape)
        return name

    def new(self, prefix: str, shape: str) -> str:
        self.count += 1
        return self.node(f"{prefix}{self.count}", shape)

    def join(self, target: str, edges: Iterable[_Edge]) -> None:
        for edge in edges:
            arrow = "-.->" if edge.dotted else "-->"
            self.edges.append(f"    {edge.origin} {arrow}{_label(edge.label)} {target}")
            self.ends |= {target} & ENDS.keys()

    def failed(self, origin: str, at: _At) -> None:
        """Lead from what has failed to the undos, or to somebody who decides."""
        if self.failing:
            self.failing[-1].append(origin)
            return
        for target in (PARKED,) if at.forward else at.undos:
            self.join(target, [_Edge(origin, "refused" if at.forward else "", dotted=True)])

    @contextmanager
    def group(self, title: str) -> Iterator[str]:
        self.count += 1
        name = f"g{self.count}"
        self.line(f'subgraph {name}["{title}"]')
        self.depth += 1
        yield name
        self.depth -= 1
        self.line("end")

    # nodes

    def block(self, block: Block, at: _At) -> _At:
        for node in block:
            if not at.edges:
                break
            match node:
                case Step():
                    at = self.step(node, at)
                case Wait():
                    most = "" if node.kind == "sleep" or node.limit.startswith("until ") else "at most "
                    limit = f"<br/>{most}{text(_short(node.limit))}" if node.limit else ""
                    at = self.then(self.new("n", f'{{{{"{text(node.title)}{limit}"}}}}'), at)
                case Together():
                    at = self.together(node, at)
                case Mount():
                    at = self.mount(node, at)
                case Choice():
                    asked = self.then(self.new("n", f'{{"{text(_short(node.question))}?"}}'), at)
                    at = _merged(at, [self.arm(arm, asked) for arm in node.arms])
                case Loop():
                    at = self.loop(node, at)
                case Try():
                    at = self.trying(node, at)
                case Part():
                    self.returns.append([])
                    at = self.block(node.body, at)
                    at = replace(at, edges=(*at.edges, *self.returns.pop()))
                case End():
                    at = self.end(node, at)
                case Jump():
                    left = {"return": self.returns, "break": self.breaks, "continue": self.turns}[node.kind]
                    left[-1].extend(at.edges)
                    at = replace(at, edges=())
                case Unclear():
                    name = self.new("n", f'["❓ {text(_short(node.source))}"]')
                    at = self.then(name, at)
                    self.failed(name, at)
        return at

    def then(self, name: str, at: _At) -> _At:
        self.join(name, at.edges)
        return replace(at, edges=(_Edge(name),))

    def arm(self, arm: Arm, at: _At) -> _At:
        return self.block(arm.body, replace(at, edges=tuple(replace(edge, label=arm.label) for edge in at.edges)))

    def step(self, step: Step, at: _At) -> _At:
        ask = f"<br/>❔ {text(step.ask)}" if step.ask else ""
        pivot = ":::pivot" if step.pivot else ""
        told = "<br/>no way back from here" if step.pivot else ""
        name = self.new("n", f'["{text(step.title)}<br/><small>{text(_short(step.name))}</small>{ask}{told}"]{pivot}')
        at = self.then(name, at)
        if step.undo is not None and not at.forward:
            at = self.undo(step.undo, at, " (last)" if step.undo_last else "")
        self.failed(name, at)
        return replace(at, forward=True) if step.pivot else at

    def undo(self, name: str, at: _At, told: str = "") -> _At:
        each = " (each)" if at.repeated else ""
        undo = self.new("u", f'["↩ {text(_short(name))}{each}{told}"]:::undo')
        for older in at.undos:
            self.join(older, [_Edge(undo, dotted=True)])
        return replace(at, undos=(undo,))

    def together(self, node: Together, at: _At) -> _At:
        edges: list[_Edge] = []
        [only] = node.arms if len(node.arms) == 1 else [None]
        title = f"side by side {only.label}" if only else "side by side"
        self.failing.append([])
        start, undos = at, at
        with self.group(text(title)):
            for arm in node.arms:
                repeated = start.repeated or bool(arm.label)
                inside = replace(undos, edges=start.edges, repeated=repeated)
                if arm.label and only is None:
                    with self.group(text(arm.label)):
                        undos = self.block(arm.body, inside)
                else:
                    undos = self.block(arm.body, inside)
                edges.extend(undos.edges)
        at = replace(undos, edges=tuple(edges), repeated=start.repeated)
        for failed in self.failing.pop():
            self.failed(failed, at)
        return at

    def mount(self, mount: Mount, at: _At) -> _At:
        how = {"sub": "", "child": ", a child workflow", "either": ", inline or a child workflow"}[mount.how]
        title = text(f"{mount.name}: {_short(mount.process)}{how}")
        if mount.outline is None or not any(walk(mount.outline.body)):
            name = self.new("n", f'[["{title}"]]')
            inside = self.then(name, at)
            self.failed(name, at)
        else:
            with self.group(title + _within(mount.outline)):
                self.returns.append([])
                inside = self.block(mount.outline.body, at)
                inside = replace(inside, edges=(*inside.edges, *self.returns.pop()))
        return inside

    def loop(self, loop: Loop, at: _At) -> _At:
        stays, leaves = ("yes", "no") if loop.kind == "while" else ("next", "done")
        shape = f'{{"{loop.kind} {text(_short(loop.over))}"}}' if loop.over else '(("↻"))'
        head = self.new("n", shape)
        before = self.then(head, at)
        self.breaks.append([])
        self.turns.append([])
        turn = self.block(loop.body, replace(before, edges=(_Edge(head, stays if loop.over else ""),), repeated=True))
        self.join(head, (*turn.edges, *self.turns.pop()))
        out = replace(before, edges=(_Edge(head, leaves),) if loop.over else ())
        broken = replace(turn, edges=tuple(self.breaks.pop()))
        return replace(_merged(out, [out, replace(turn, edges=()), broken]), repeated=at.repeated)

    def trying(self, node: Try, at: _At) -> _At:
        with self.group("try") as group:
            body = self.block(node.body, at)
        ways = [body]
        for handler in node.handlers:
            after = _merged(at, [at, body])
            if handler.label == SagaUndone.__name__:
                self.ends.add(UNDONE)
                start = replace(after, edges=(_Edge(UNDONE),), undos=())
            else:
                start = replace(after, edges=(_Edge(group, handler.label, dotted=True),))
            ways.append(self.block(handler.body, start))
        return _merged(at, ways)

    def end(self, end: End, at: _At) -> _At:
        error = end.error or "the same again"
        name = self.new("n", f'(["{"refused" if end.refusal else "raises"}: {text(_short(error))}"])')
        at = self.then(name, at)
        self.failed(name, at)
        return replace(at, edges=())


def _merged(at: _At, ways: list[_At]) -> _At:
    """Where several ways meet again."""
    return replace(
        at,
        edges=tuple(edge for way in ways for edge in way.edges),
        undos=tuple(dict.fromkeys(undo for way in ways for undo in way.undos)),
        forward=all(way.forward for way in ways if way.edges) if any(way.edges for way in ways) else at.forward,
    )


def text(content: str) -> str:
    """A text that mermaid shows as it is, between quotes."""
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\n": " "}
    return "".join(codes.get(letter, letter) for letter in content)


def _within(outline: Outline) -> str:
    return f"<br/>within {text(_short(outline.deadline))}" if outline.deadline else ""


def _short(source: str) -> str:
    source = " ".join(source.split())
    return source if len(source) <= LONGEST else f"{source[: LONGEST - 1]}…"


def _label(label: str) -> str:
    return f'|"{text(_short(label))}"|' if label else ""
