import pytest

from amends.embedded.supervisor import Supervisor
from amends.errors import ServerFailed


class Fragile:
    """Dies whenever it is told to."""

    name = "fragile"
    pid = 1

    def __init__(self) -> None:
        self.starts = 0
        self.code: int | None = None

    def start(self) -> None:
        self.starts += 1
        self.code = None

    def poll(self) -> int | None:
        return self.code

    def stop(self, timeout: float) -> None:
        self.code = 0


class Bench:
    """A supervised child and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.child = Fragile()
        self.supervisor = Supervisor(self.child, clock=lambda: self.now)

    def die(self) -> float:
        """Lets the child die; the seconds until it is back."""
        before, died = self.child.starts, self.now
        self.child.code = -9
        self.supervisor.check()
        while self.child.starts == before:
            self.now += 0.1
            self.supervisor.check()
        return round(self.now - died, 1)


def test_a_living_child_is_left_alone() -> None:
    bench = Bench()

    bench.supervisor.check()

    assert bench.child.starts == 0


def test_pauses_double_up_to_a_limit() -> None:
    bench = Bench()

    assert [bench.die() for _ in range(8)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], abs=0.11)


def test_thirty_healthy_seconds_make_up_for_earlier_deaths() -> None:
    bench = Bench()
    for _ in range(5):
        bench.die()

    bench.now += 30

    assert bench.die() == pytest.approx(0.2, abs=0.11)


def test_ten_deaths_in_a_row_are_too_many() -> None:
    bench = Bench()
    for _ in range(9):
        bench.die()

    with pytest.raises(ServerFailed, match="fragile ended 10 times in a row, last with code -9"):
        bench.die()
