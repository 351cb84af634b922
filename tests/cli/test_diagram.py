"""`amends diagram`: what an outline makes of every way to write a story, and that mermaid can read the drawing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from amends.diagram import mermaid
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
    outline,
)
from amends.process import Process
from app import app
from examples.hotel import BookStay
from tests.cli.stories import STORIES, Abreast, Catches, Heir, Helpers, Mounts, Plan, School, Undos, Ways
from tests.cli.typing_in import amends
from tests.sagas.trips import CarefulTravel, Travel

GOLDEN = Path(__file__).parent / "golden"

BUILD, TEAR_DOWN = "outline_test.build", "outline_test.tear_down"

ALL: list[type[Process[Any, Any]]] = [*app.workflows, *STORIES, Travel, CarefulTravel, BookStay]


def build(title: str, undo: str | None = None) -> Step:
    return Step(title, "command", BUILD, undo)


def test_given_any_way_to_say_an_undo_when_outlined_then_its_name_is_found() -> None:
    told = outline(Undos)
    assert (told.process, told.summary) == ("Undos", "Every way to say what takes a step back.")
    assert told.deadline == "timedelta(days=30)"
    assert told.body == (
        build("a command", TEAR_DOWN),
        build("a function", TEAR_DOWN),
        build("a method", TEAR_DOWN),
        build("one of two", f"{TEAR_DOWN} or {BUILD}"),
        build("none"),
        Step(
            "a call",
            "call",
            "outline_test.hire",
            "outline_test.dismiss",
            undo_last=True,
            ask="outline_test.find",
        ),
        build("the second", TEAR_DOWN),
        Step("who knows", "unclear", "plan.command", BUILD),
        Step("no way back", "command", BUILD, pivot=True),
    )


def test_given_branches_and_loops_when_outlined_then_each_way_is_there_and_what_says_nothing_is_not() -> None:
    no_more = Choice("in time", (Arm("yes", (Jump("break"),)), Arm("no", ())))
    assert outline(Ways).body == (
        Choice(
            "plan.large",
            (
                Arm("yes", (build("a", TEAR_DOWN),)),
                Arm("no", (Choice("plan.rooms", (Arm("yes", (build("b", TEAR_DOWN),)), Arm("no", ()))),)),
            ),
        ),
        Choice(
            "plan.style",
            (
                Arm("'modern' if plan.large", (build("c"),)),
                Arm("'old'", (End("TooDark", refusal=True),)),
                Arm("otherwise", ()),
            ),
        ),
        Loop(
            "for",
            "room in plan.rooms",
            (
                Choice("not room", (Arm("yes", (Jump("continue"),)), Arm("no", ()))),
                build("furnish {room}", TEAR_DOWN),
            ),
        ),
        Loop("while", "", (Wait("wait for the sun", "wait", "LONG"), no_more)),
        build("d"),
    )


def test_given_failures_that_are_caught_when_outlined_then_each_handler_is_there() -> None:
    inner = Try(
        (build("try it", TEAR_DOWN),),
        (Arm("TooDark", (build("do without"),)), Arm("(KeyError, ValueError)", (End("", refusal=False),))),
    )
    undone = Arm("SagaUndone", (Unclear("workflow.sleep(1)"),))
    assert outline(Catches).body == (Try((inner, build("paint it white")), (undone,)),)


def test_given_steps_side_by_side_when_outlined_then_lists_comprehensions_and_helpers_are_followed() -> None:
    rooms = "for room in plan.rooms"
    assert outline(Abreast).body == (
        Together(
            (
                Arm("", (build("walls", TEAR_DOWN),)),
                Arm("", (build("paint it red"),)),
                Arm(f"{rooms} if room", (build("room {room}"),)),
            )
        ),
        Together((Arm("", (build("roof"),)), Arm(rooms, (build("paint it {colour}"),)))),
        Together((Arm(rooms, (build("door of {room}"),)),)),
    )


def test_given_processes_in_a_process_when_outlined_then_each_is_outlined_but_never_inside_itself() -> None:
    school = Outline("School", "A school.", "", (build("build the school", TEAR_DOWN),))
    assert outline(Mounts).process == "Village"
    assert outline(Mounts).body == (
        Mount("school", "School", "sub", school),
        Mount("mill", "School", "child", school),
        Mount("shop", "School", "either", school),
        Mount("suburb", "Village", "sub", None),
        build("open it"),
    )
    assert [step.title for step in outline(Mounts).steps()] == ["build the school"] * 3 + ["open it"]


def test_given_helpers_when_outlined_then_they_are_followed_and_what_can_not_be_is_shown_as_written() -> None:
    early = Part(
        "_early",
        (Choice("not plan.rooms", (Arm("yes", (Jump("return"),)), Arm("no", ()))), build("early")),
    )
    white, blue = build("paint it white"), build("paint it blue")
    again = Arm("yes", (Unclear("self._again(saga, times - 1)"),))
    expected: Block = (
        build("nested thing"),
        early,
        Choice("plan.large", (Arm("yes", (early,)), Arm("no", (white,)))),
        Choice("plan.large", (Arm("yes", (blue,)), Arm("no", ()))),
        Loop("for", "room in plan.rooms", (build("paint it {colour}"),)),
        Wait("let it dry", "sleep", "timedelta(hours=2)"),
        Wait("wait for the owner", "wait", "until plan.due"),
        build("{times} times more than anybody could ever say in so few words"),
        Choice("times", (again, Arm("no", ()))),
        Unclear("workflow.wait_condition(lambda: plan.large)"),
        Step("ask", "call", "outline_test.find"),
        Unclear("workflow.execute_activity('x', await self._answer(saga), start_to_close_timeout=LONG)"),
        build("paint it green"),
    )
    assert outline(Helpers).body == expected
    # and what a class takes over from another is read where that one has it
    assert outline(Heir).body[1:3] == (early, build("and more"))


def test_given_a_process_without_source_when_outlined_then_it_says_so() -> None:
    names: dict[str, Any] = {"School": School, "Plan": Plan}
    exec("class Made(School):\n    async def run(self, plan): await self.saga.do('x', plan)", names)
    assert outline(names["Made"]).body == (Unclear("Made.run: its source is not there"),)
    assert "its source is not there" in mermaid(outline(names["Made"]))


@pytest.mark.parametrize("process", ALL, ids=lambda process: process.__name__)
def test_given_any_process_when_drawn_then_the_drawing_is_sound(process: type[Process[Any, Any]]) -> None:
    lines = mermaid(outline(process)).splitlines()
    assert lines[0] == "flowchart TD"
    nodes: list[str] = []
    edges: list[tuple[str, str]] = []
    open_groups = 0
    for line in (line.strip() for line in lines[1:]):
        if group := re.fullmatch(r'subgraph (\w+)\["[^"]*"\]', line):
            nodes.append(group[1])
            open_groups += 1
        elif line == "end":
            open_groups -= 1
            assert open_groups >= 0
        elif node := re.fullmatch(
            r'(\w+)(?:\(\["[^"]+"\]\)|\["[^"]+"\]|\[\["[^"]+"\]\]|\{"[^"]+"\}|\{\{"[^"]+"\}\}|\(\("↻"\)\))(?:::(?::\w+))?',
            line,
        ):
            nodes.append(node[1])
        elif edge := re.fullmatch(r'(\w+) (?:-->|-\.->)(?:\|"[^"]+"\|)? (\w+)', line):
            edges.append((edge[1], edge[2]))
            assert open_groups == 0, "an edge would draw its nodes into the group"
        else:
            assert re.fullmatch(r"classDef \w+ [\w:. -]+", line), line
    assert open_groups == 0
    assert len(set(nodes)) == len(nodes)
    assert {end for edge in edges for end in edge} <= set(nodes)
    # everything that is drawn can be come to from the start, or leads somewhere as an undo
    connected = {end for edge in edges for end in edge}
    assert {node for node in nodes if not node.startswith("g")} <= connected


@pytest.mark.parametrize("name", ["PlaceOrder", "Payment", "InventoryReservation"])
async def test_given_a_process_of_the_shop_when_asked_for_then_the_command_prints_its_drawing(name: str) -> None:
    """After a change to a story: `amends diagram NAME > tests/cli/golden/NAME.mmd`, and look at it."""
    drawn = await amends("diagram", name)
    assert drawn.stdout == (GOLDEN / f"{name}.mmd").read_text()


@pytest.mark.parametrize("process", STORIES, ids=lambda process: process.__name__)
def test_given_a_way_to_write_a_story_when_drawn_then_it_is_drawn_like_this(process: type[Process[Any, Any]]) -> None:
    assert mermaid(outline(process)) == (GOLDEN / "stories" / f"{process.__name__}.mmd").read_text()


async def test_given_no_such_process_when_asked_for_then_the_command_says_which_there_are() -> None:
    done = await amends("diagram", "Nothing")
    assert done.exit_code == 2
    assert "PlaceOrder" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
