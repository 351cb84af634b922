"""One tree of errors, and refusals that say why, with facts, wherever they travel."""

import importlib
import inspect
import pickle
import pkgutil
import re

import pytest

import amends
from amends import AmendsError, InvalidInput, Refused, errors
from amends.errors import DuplicateMessage
from amends.records import Refusal
from tests.kernel.kernel_shop import NameTaken, TooMuch


def drawn() -> dict[str, str]:
    """Error → its parent, as the tree at the top of the module has it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)(?:\s{2,}|$)", line)
        if not found:
            continue
        depth = len(found[1]) // 4 + ("── " in line)
        del path[depth:]
        parents[found[2]] = path[-1] if path else ""
        path.append(found[2])
    return parents


def declared() -> dict[str, str]:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    return {kind.__name__: kind.__mro__[1].__name__ if kind is not AmendsError else "" for kind in classes}


def test_the_tree_that_is_drawn_is_the_tree_that_is_declared() -> None:
    assert drawn() == declared()
    assert len(drawn()) > 15, "the tree was not read"


def test_every_error_is_exported_and_caught_by_the_root() -> None:
    assert sorted(declared()) == errors.__all__
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), AmendsError)
        assert getattr(errors, name).__doc__, f"{name} says nothing"


def test_no_other_module_of_the_engine_declares_errors_of_its_own_beside_the_tree() -> None:
    inside = {
        "amends.store.ClaimTaken",  # never seen by callers
        "amends.outcomes.SagaUndone",  # a workflow's end
        "amends.testing.faults.injections.RefusedByTest",  # only ever raised in a test
    }
    found = set()
    for module in pkgutil.walk_packages(amends.__path__, "amends."):
        if ".migrations" in module.name or module.name.endswith("__main__"):
            continue
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__ == module.name != errors.__name__:
                found.add(f"{module.name}.{name}")
    assert {name for name in found if not name.rpartition(".")[2].startswith("_")} <= inside


def test_a_refusal_says_its_docstring_then_its_facts() -> None:
    refused = TooMuch(amount=2000, limit=1000)
    assert str(refused) == refused.message == "More than a counter counts at once (amount=2000, limit=1000)"
    assert refused.name == "TooMuch"
    assert refused.facts == {"amount": 2000, "limit": 1000}


def test_a_refusal_without_facts_is_its_docstring_s_first_paragraph_on_one_line() -> None:
    class KernelLongWinded(Refused):
        """A sentence that
        goes on.

        And what only developers need to know.
        """

    assert str(KernelLongWinded()) == "A sentence that goes on."


def test_a_refusal_without_a_docstring_says_its_name() -> None:
    class KernelTaciturn(Refused):
        __doc__ = None

    assert str(KernelTaciturn()) == "KernelTaciturn"


def test_a_recorded_refusal_is_recalled_as_its_class() -> None:
    recalled = Refusal.of(NameTaken(name="ada")).error()
    assert type(recalled) is NameTaken
    assert (recalled.facts, str(recalled)) == ({"name": "ada"}, "The name belongs to somebody else (name=ada)")


def test_a_refusal_recalled_with_other_words_keeps_the_recorded_ones() -> None:
    recalled = Refused.recall("TooMuch", "as it was said then", {"amount": 5})
    assert (str(recalled), recalled.message, recalled.name) == ("as it was said then", "as it was said then", "TooMuch")


def test_a_refusal_nobody_knows_here_is_recalled_as_a_plain_one_of_its_name() -> None:
    recalled = Refused.recall("KernelNowhereDeclared", "no", {"why": "because"})
    assert type(recalled) is Refused
    assert (recalled.name, recalled.message, recalled.facts) == ("KernelNowhereDeclared", "no", {"why": "because"})


@pytest.mark.parametrize("refused", [TooMuch(amount=1), Refused.recall("KernelNowhereDeclared", "no", {"a": 1})])
def test_a_refusal_survives_pickle(refused: Refused) -> None:
    again = pickle.loads(pickle.dumps(refused))
    assert type(again) is type(refused)
    assert (again.name, again.message, again.facts) == (refused.name, refused.message, refused.facts)


def test_two_modules_can_t_declare_one_refusal() -> None:
    with pytest.raises(DuplicateMessage, match=r"TooMuch is declared in tests\.kernel\.kernel_shop and in"):
        type("TooMuch", (Refused,), {"__module__": "somewhere.other"})


def test_invalid_input_names_each_field() -> None:
    error = InvalidInput({"lines.0.quantity": "must be more than zero", "name": "is missing"})
    assert error.problems == {"lines.0.quantity": "must be more than zero", "name": "is missing"}
    assert str(error) == "lines.0.quantity: must be more than zero; name: is missing"
