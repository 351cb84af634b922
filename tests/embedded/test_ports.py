import socket
from collections.abc import Iterator

import pytest

from amends.embedded import claim_port, free_port, prefer_port
from amends.errors import PortTaken


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = [free_port() for _ in range(20)]

    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))


def test_a_claimed_port_that_is_taken_says_what_wanted_it_and_what_to_set(taken: int) -> None:
    with pytest.raises(PortTaken, match=rf"port {taken} .*the embedded X.*set AMENDS_X_PORT"):
        claim_port(taken, "the embedded X", "AMENDS_X_PORT")


def test_a_claimed_port_that_is_free_is_given(taken: int) -> None:
    wanted = free_port()

    assert claim_port(wanted, "the embedded X", "AMENDS_X_PORT") == wanted
    assert claim_port(0, "the embedded X", "AMENDS_X_PORT") not in (0, taken)


def test_a_preferred_port_gives_way(taken: int) -> None:
    wanted = free_port()

    assert prefer_port(wanted) == wanted
    assert prefer_port(taken) not in (0, taken)


def test_a_listener_on_all_addresses_counts() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = int(listener.getsockname()[1])

        assert prefer_port(port) != port
