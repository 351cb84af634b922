"""The public names: what stories are written with, and nothing that came there by accident."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import amends

PUBLIC = [
    "Aggregate",
    "AmendsError",
    "Call",
    "Claim",
    "Command",
    "Context",
    "Currency",
    "Decision",
    "Event",
    "Free",
    "InvalidInput",
    "Key",
    "Money",
    "Personal",
    "Position",
    "Process",
    "ProcessManager",
    "Receipt",
    "Recorded",
    "Refused",
    "Saga",
    "SagaUndone",
    "Signal",
    "Start",
    "Undo",
    "Value",
    "upcast",
]

HEAVY = ["sqlalchemy", "alembic", "psycopg", "psycopg_pool", "typer"]

MODULES = [
    module.name
    for module in pkgutil.walk_packages(amends.__path__, "amends.")
    if ".migrations" not in module.name and not module.name.endswith("__main__")
]


def test_the_package_exports_exactly_this() -> None:
    assert sorted(amends.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("module", ["amends", *MODULES])
def test_a_module_says_what_it_exports_and_has_it(module: str) -> None:
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    assert names is not None, f"{module} has no __all__"
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(loaded, name)] == []


def test_importing_the_package_stays_light_for_workflows_import_it() -> None:
    script = f"import sys, amends; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
