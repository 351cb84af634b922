"""Messages: stable names, closed fields, old versions read as new ones, personal fields kept out of sight."""

import re
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, create_model
from pydantic_core import to_json
from typing_extensions import TypeAliasType

from amends import Aggregate, Command, Event, InvalidInput, Personal, Value, upcast
from amends.errors import DuplicateMessage, MessageError, MessageFromTheFuture, MissingUpcaster, UnknownMessage
from amends.handler import CommandHandler
from amends.sealing import opened, sealed
from amends.store import EventStore
from amends.values import MASK, personal_in
from tests.kernel.kernel_shop import Counter, acting_as, context, rows, traced_pool, unique
from tests.kernel.kernel_shop import TakeNames as Take


class Packed(Event, name="kernel.packed", version=3):
    """Once {"parcel", "kilos"}; then {"parcel", "grams"}; today the parcel has a maker too."""

    parcel: str
    grams: int
    maker: str

    @upcast(1)
    @staticmethod
    def to_grams(data: dict[str, Any]) -> dict[str, Any]:
        return {"parcel": data["parcel"], "grams": data["kilos"] * 1000}

    @upcast(2)
    @staticmethod
    def to_maker(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "maker": "unknown"}


class Pack(Command, name="kernel.pack"):
    parcel: str


class Parcel(Aggregate[Pack, Packed], category="kernel_parcel", key="parcel"):
    grams: int = 0
    makers: tuple[str, ...] = ()

    def decide(self, command: Pack) -> list[Event]:
        return [Packed(parcel=command.parcel, grams=1, maker="us")]

    def evolve(self, event: Packed) -> "Parcel":
        return self.having(grams=self.grams + event.grams, makers=(*self.makers, event.maker))


class Address(Value):
    street: str
    zip: int


class Register(Command, name="kernel.register"):
    person: str
    name: Personal[str]
    address: Address
    others: tuple[Address, ...] = ()


def register(**changes: Any) -> Register:
    address = {"street": "Hohe Gasse", "zip": 1}
    return Register(**{"person": "p1", "name": "Ada Lovelace", "address": address, **changes})


# Names and versions


def test_a_message_is_known_by_the_name_it_declares_not_by_its_class() -> None:
    assert (Packed.message_name, Packed.schema_version) == ("kernel.packed", 3)
    assert Event.registry.find("kernel.packed") is Packed
    assert Command.registry.find("kernel.pack") is Pack


def test_today_s_version_is_read_as_it_is() -> None:
    data = {"parcel": "p", "grams": 5, "maker": "m"}
    assert Event.read("kernel.packed", 3, data) == Packed(parcel="p", grams=5, maker="m")


@pytest.mark.parametrize(("version", "data"), [(1, {"parcel": "p", "kilos": 2}), (2, {"parcel": "p", "grams": 2000})])
def test_older_versions_are_read_as_today_s_step_by_step(version: int, data: dict[str, Any]) -> None:
    stored = dict(data)
    assert Event.read("kernel.packed", version, stored) == Packed(parcel="p", grams=2000, maker="unknown")
    assert stored == data, "what was stored has been changed"


async def test_given_events_stored_by_old_code_when_loaded_then_the_aggregate_sees_today_s(database_url: str) -> None:
    # given: rows as versions 1 and 2 of the code wrote them
    parcel = unique("parcel")
    insert = b"""
        insert into amends.events (stream, version, name, schema_version, data, correlation_id, causation_id,
                                   command_id, actor)
        values (%s, %s, 'kernel.packed', %s, %s::jsonb, 'c', 'c', %s, 'old code')
    """
    async with acting_as(database_url, "owner", autocommit=False) as connection:
        await connection.execute(insert, (f"kernel_parcel-{parcel}", 1, 1, '{"parcel": "p", "kilos": 2}', unique()))
        await connection.execute(insert, (f"kernel_parcel-{parcel}", 2, 2, '{"parcel": "p", "grams": 7}', unique()))
        await connection.execute(
            b"insert into amends.streams values (%s, 2, pg_current_xact_id())", (f"kernel_parcel-{parcel}",)
        )

    async with traced_pool(database_url) as (pool, _):
        # when
        handler = CommandHandler(EventStore(pool), [Parcel])
        state, version = await handler.state(Parcel, parcel)
        # then
        assert (state, version) == (Parcel(grams=2007, makers=("unknown", "unknown")), 2)
        # and it goes on in today's version, beside the old rows
        receipt = await handler.handle(Pack(parcel=parcel), context())
        assert receipt.version == 3
    versions = "select schema_version from amends.events where stream = %s order by version"
    assert await rows(database_url, versions, f"kernel_parcel-{parcel}") == [(1,), (2,), (3,)]


def test_a_name_nobody_declares_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UnknownMessage, match=r"No event is named 'kernel\.nothing'; import .* or deploy"):
        Event.read("kernel.nothing", 1, {})
    with pytest.raises(UnknownMessage, match=r"No command is named 'kernel\.packed'"):
        Command.registry.read("kernel.packed", 1, {})


def test_a_version_of_newer_code_is_an_error_and_is_not_guessed_at() -> None:
    with pytest.raises(
        MessageFromTheFuture, match=r"'kernel\.packed' was stored in version 4; this code reads up to 3"
    ):
        Event.read("kernel.packed", 4, {"parcel": "p", "grams": 5, "maker": "m"})


def test_two_classes_can_t_have_one_name() -> None:
    with pytest.raises(
        DuplicateMessage, match=r"event name 'kernel\.packed' belongs to .*Packed; .* needs another one"
    ):

        class Other(Event, name="kernel.packed"):
            pass

    assert Event.registry.find("kernel.packed") is Packed


def test_a_command_and_an_event_may_share_a_name() -> None:
    class KernelPackedToo(Command, name="kernel.packed"):
        pass

    assert Event.registry.find("kernel.packed") is Packed


def test_a_module_may_be_imported_again() -> None:
    again = type("Pack", (Command,), {"__module__": Pack.__module__, "__qualname__": "Pack"}, name="kernel.pack")
    assert Command.registry.find("kernel.pack") is again
    Command.registry.add(Pack)


def test_a_gap_between_versions_is_found_at_import() -> None:
    with pytest.raises(
        MissingUpcaster, match=r"version 3 but has no upcaster from version 2; add @upcast\(2\) to .*Gap"
    ):

        class Gap(Event, name="kernel.gap", version=3):
            @upcast(1)
            @staticmethod
            def first(data: dict[str, Any]) -> dict[str, Any]:
                return data

    with pytest.raises(UnknownMessage):
        Event.registry.find("kernel.gap")


def test_all_that_is_wrong_with_a_message_is_an_error_of_messages() -> None:
    for kind in (UnknownMessage, MessageFromTheFuture, DuplicateMessage, MissingUpcaster):
        assert issubclass(kind, MessageError)


# Fields


@pytest.mark.parametrize(
    "read", [lambda data: Pack(**data), lambda data: Command.registry.read("kernel.pack", 1, data)]
)
def test_an_unknown_field_is_refused_by_name(read: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read({"parcel": "p", "colour": "red"})
    assert list(caught.value.problems) == ["colour"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"address": {"street": "s", "zip": "x"}}, "address.zip"),
        ({"address": {"street": "s"}}, "address.zip"),
        ({"others": [{"street": "s", "zip": 1}, {"street": 2, "zip": 1}]}, "others.1.street"),
        ({"address": {"street": "s", "zip": 1, "planet": "p"}}, "address.planet"),
        ({"person": None}, "person"),
    ],
)
def test_a_wrong_field_is_named_with_its_whole_path(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        register(**changes)
    assert list(caught.value.problems) == [path]


def test_the_wrong_value_itself_is_not_repeated_for_it_may_be_personal() -> None:
    with pytest.raises(InvalidInput) as caught:
        register(name=["Ada Lovelace"])
    assert "Ada" not in str(caught.value)


def test_a_message_can_t_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Pack(parcel="p").parcel = "q"  # type: ignore[misc]


# Personal fields


def test_personal_fields_are_masked_wherever_a_message_is_shown() -> None:
    command = register()
    for shown in (repr(command), str(command), f"{command}", repr([command]), str(command.redacted())):
        assert "Ada" not in shown
        assert MASK in shown
    assert command.redacted() == {
        "person": "p1",
        "name": MASK,
        "address": {"street": "Hohe Gasse", "zip": 1},
        "others": [],
    }


def test_the_message_itself_keeps_them() -> None:
    assert register().name == "Ada Lovelace"
    assert register().model_dump()["name"] == "Ada Lovelace"


class Invite(Command, name="kernel.invite"):
    person: str
    nickname: Personal[str] | None = None
    aliases: Personal[tuple[str, ...]] = ()


def test_an_optional_personal_field_is_masked() -> None:
    invite = Invite(person="p", nickname="Ada")
    assert "Ada" not in repr(invite)
    assert "Ada" not in str(invite.redacted())


def test_a_tuple_of_personal_values_is_masked() -> None:
    invite = Invite(person="p", aliases=("Ada",))
    assert "Ada" not in repr(invite)
    assert "Ada" not in str(invite.redacted())


class Contact(Value):
    phone: Personal[str]


class Call(Command, name="kernel.call"):
    person: str
    contact: Contact


def test_a_personal_field_of_a_nested_value_is_masked() -> None:
    call = Call(person="p", contact=Contact(phone="0650-4711"))
    assert "4711" not in repr(call)
    assert "4711" not in str(call.redacted())


async def test_given_a_command_with_personal_fields_when_handled_then_its_log_entry_has_none(database_url: str) -> None:
    async with traced_pool(database_url) as (pool, _):
        handler = CommandHandler(EventStore(pool), [Counter])
        about = context()
        await handler.handle(Take(counter_id=unique(), names=(unique("name"),), note="Ada Lovelace"), about)
    [(payload,)] = await rows(
        database_url, "select payload from amends.commands where command_id = %s", about.command_id
    )
    assert payload["note"] == MASK
    assert "Ada" not in str(payload)


def test_every_message_class_is_frozen_and_closed() -> None:
    for registry in (Command.registry, Event.registry):
        for kind in registry.classes.values():
            assert issubclass(kind, BaseModel)
            assert (kind.model_config.get("frozen"), kind.model_config.get("extra")) == (True, "forbid"), kind


class Told(Value):
    """What holds somebody's name, so that what holds it carries personal data."""

    who: Personal[str]


def test_given_a_mark_inside_a_container_when_declared_then_refused() -> None:
    with pytest.raises(TypeError, match=r"Inside\.names: the mark of personal data stands outside"):

        class Inside(Value):
            names: tuple[Personal[str], ...]


@pytest.mark.parametrize("kind", [date, tuple[str, ...], Annotated[str, Field(max_length=5)], Told])
def test_given_a_personal_field_that_can_t_be_forgotten_when_an_event_is_declared_then_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="it has to take the text '\\[forgotten\\]'"):
        create_model("Kept", __base__=Event, what=Personal[kind])  # type: ignore[misc]


Nick = TypeAliasType("Nick", Personal[str])


def test_given_marks_in_aliases_and_sets_when_looked_for_then_found() -> None:
    class Meeting(Value):
        nick: Nick
        guests: frozenset[Told] = frozenset()
        maybe: Personal[str] | None = None
        born: Personal[date] = date(2000, 1, 1)

    meeting = Meeting(nick="Zo", guests=frozenset({Told(who="Ada")}), born="1815-12-10")
    key = bytes(64)
    closed = sealed(meeting, meeting.model_dump(mode="json"), "meeting-1", key)

    assert set(personal_in(meeting)) == {"Zo", "Ada", None, date(1815, 12, 10)}
    assert not {"Zo", "Ada", "1815-12-10"} & set(re.findall(r"[\w-]+", to_json(closed).decode()))
    again = Meeting.model_validate(closed)
    assert Meeting(**opened(again, again.model_dump(mode="json"), {"meeting-1": key})) == meeting
