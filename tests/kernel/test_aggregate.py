"""How aggregates are declared, and what is said when it is done wrongly."""

from typing import Any

import pytest

from amends import Aggregate, Command, Event
from tests.kernel.kernel_shop import Add, Added, Counter, DropName, NameDropped, NamesTaken, TakeNames


class Ping(Command, name="kernel.ping"):
    target: str


class Pinged(Event, name="kernel.pinged"):
    target: str


def test_a_declaration_says_what_it_handles_and_where_it_goes() -> None:
    assert Counter.commands == (Add, TakeNames, DropName)
    assert Counter.events == (Added, NamesTaken, NameDropped)
    assert (Counter.category, Counter.key, Counter.snapshot_version) == ("kernel", "counter_id", 1)
    assert Counter.stream("7") == "kernel-7"
    assert Counter.stream_of(Add(counter_id="7")) == "kernel-7"
    assert Add(counter_id="7").step_name == "kernel.add:7"


def test_one_command_and_one_event_need_no_union() -> None:
    class Target(Aggregate[Ping, Pinged], category="kernel_target", key="target", snapshot_version=3):
        pass

    assert (Target.commands, Target.events, Target.snapshot_version) == ((Ping,), (Pinged,), 3)


def test_a_command_without_the_key_is_refused_where_it_is_declared() -> None:
    with pytest.raises(TypeError, match=r"Ping has no field 'order_id', which names the .*Misnamed"):

        class Misnamed(Aggregate[Ping, Pinged], category="kernel_misnamed", key="order_id"):
            pass


def test_an_aggregate_without_rules_says_so_when_it_is_asked() -> None:
    class Idle(Aggregate[Ping, Pinged], category="kernel_idle", key="target"):
        pass

    with pytest.raises(TypeError, match=r"Idle decides nothing; write its decide\(\)"):
        Idle().decide(Ping(target="a"))
    with pytest.raises(TypeError, match=r"Idle evolves nowhere; write its evolve\(\)"):
        Idle().evolve(Pinged(target="a"))


def test_an_aggregate_that_does_not_say_which_messages_it_takes_is_told_so() -> None:
    with pytest.raises(TypeError, match="Silent"):

        class Silent(Aggregate, category="kernel_silent", key="target"):  # type: ignore[type-arg]
            pass


def test_state_is_replayed_oldest_first_and_can_t_be_changed() -> None:
    state = Counter().replay([Added(counter_id="a", amount=2), Added(counter_id="a", amount=3)])
    assert (state.total, state.events_seen) == (5, 2)
    assert Counter() == Counter(total=0), "replaying changed the beginning"
    with pytest.raises(ValueError, match="frozen"):
        state.total = 9  # type: ignore[misc]


def test_state_of_unknown_shape_is_not_taken() -> None:
    unknown: dict[str, Any] = {"total": 1, "gone": 2}
    with pytest.raises(ValueError, match="gone"):
        Counter.model_validate(unknown)
