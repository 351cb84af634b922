"""Which loopback port a server gets."""

import errno
import random
import socket

from amends.errors import PortTaken

__all__ = ["LOOPBACK", "claim_port", "free_port", "is_free", "prefer_port"]

LOOPBACK = "127.0.0.1"

# Below the range the kernel takes the ports of outgoing connections from, so that a server that was killed
# finds its port still free when it comes back.
FIRST, LAST = 12_000, 32_000

# Ports are handed out before anybody listens there: the same one must not be handed out twice.
_handed_out: set[int] = set()

# Whoever seeds the common generator, as test tools do, must not make two processes draw the same ports.
_random = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that has just been closed does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as problem:
            if problem.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    # On macOS that bind succeeds beside a server that listens on all addresses.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) != 0


def free_port() -> int:
    """A loopback port on which nobody listens, different at each call.

    Errors:
        PortTaken: none was found.
    """
    for _ in range(1000):
        port = _random.randint(FIRST, LAST)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port
    raise PortTaken(f"no free port was found on {LOOPBACK} between {FIRST} and {LAST}")


def claim_port(wanted: int, what: str, setting: str) -> int:
    """The port somebody asked for, or a free one if any will do.

    Args:
        wanted: the port; 0 stands for any free one.
        what: what shall listen there, as a person would say it ("the embedded PostgreSQL").
        setting: the environment variable it was chosen with.

    Errors:
        PortTaken: somebody else listens there.
    """
    if wanted == 0:
        return free_port()
    if is_free(wanted):
        return wanted
    raise PortTaken(
        f"port {wanted} on {LOOPBACK}, wanted for {what}, is taken: end what listens there, or set {setting} "
        "to another port (0 takes a free one)"
    )


def prefer_port(wanted: int) -> int:
    """The usual port if it is free, else any free one.

    Args:
        wanted: the port; 0 stands for any free one.

    Errors:
        PortTaken: no port at all was found.
    """
    return wanted if wanted and is_free(wanted) else free_port()
