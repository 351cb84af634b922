"""Starts one command so that it can't outlive the process that asked for it.

    python -m amends.embedded.launch [--uid N --gid N] [--reach] [--watchdog] [--parent PID]
                                     [--death SIGNAL] [--grace SECONDS] [--report FD] -- command args…

Two ways. On Linux the launcher turns into the command (same pid), after asking the kernel for `--death`
when the parent dies. That tie is to the *thread* that forked: start it from the main thread. Elsewhere, and
with `--watchdog`, it stays in between, passes signals on, and ends the command when its own stdin reaches its
end: whoever started it keeps the other end of that pipe open as long as it lives.

It imports the standard library only and runs by path as well (`python -I -S launch.py`), which takes 20 ms.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["main"]

CANNOT_PREPARE = 125
CANNOT_RUN = 126
PARENT_GONE = 124

# linux/prctl.h and linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
# The right to pass a folder closed to others. CAP_DAC_READ_SEARCH is narrower, but containers lack it.
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

NO_REACH = (
    "an unprivileged account would need CAP_DAC_OVERRIDE to pass the closed folders above the server's "
    "programs or data, and the system does not allow it. Run as an ordinary user; or open those folders to "
    "others (chmod o+x), or move the data with AMENDS_HOME; or set AMENDS_DATABASE_URL to a PostgreSQL "
    "of your own"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Turns into the command, or watches it to its end.

    Args:
        arguments: as on the command line; without them, those of this process.

    Returns:
        The command's exit code (128 + the signal's number if one ended it), only if watched.
    """
    options = _parse(arguments)
    try:
        if options.uid is not None:
            _become(options.uid, options.gid, options.reach)
        if options.watchdog or sys.platform != "linux":
            return _watch(options)
        # Only now: a change of account makes the kernel forget the tie.
        _die_with_parent(options.death)
    except OSError as problem:
        return _fail(CANNOT_PREPARE, f"{options.command[0]}: {problem.strerror or problem}")
    if options.parent is not None and os.getppid() != options.parent:
        return PARENT_GONE
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(options.command[0], options.command)
    except OSError as problem:
        return _fail(CANNOT_RUN, f"{options.command[0]}: {problem.strerror}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="amends.embedded.launch", description="Starts a command tied to its parent.")
    parser.add_argument("--uid", type=int, help="account to become first")
    parser.add_argument("--gid", type=int, help="group to become first")
    parser.add_argument("--reach", action="store_true", help="keep the right to pass folders closed to others")
    parser.add_argument("--watchdog", action="store_true", help="stay in between instead of using the kernel's tie")
    parser.add_argument("--parent", type=int, help="pid that must still be the parent")
    parser.add_argument("--death", type=_signal, default=signal.SIGKILL, help="signal at the parent's death, e.g. QUIT")
    parser.add_argument("--grace", type=float, default=5.0, help="watchdog: seconds from that signal to SIGKILL")
    parser.add_argument("--report", type=int, help="watchdog: file descriptor to write the command's pid to")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _signal(name: str) -> signal.Signals:
    return signal.Signals["SIG" + name.upper().removeprefix("SIG")]


def _fail(code: int, text: str) -> int:
    sys.stderr.write(f"amends launch: {text}\n")
    return code


def _become(uid: int, gid: int, reach: bool) -> None:
    if reach and sys.platform != "linux":
        raise OSError(NO_REACH)
    if reach:
        # Not KEEPCAPS: with that access(2), by which initdb looks for postgres, still leaves capabilities out.
        try:
            _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        except OSError:
            raise OSError(NO_REACH) from None
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if reach:
        _keep_capability(CAP_DAC_OVERRIDE)


def _keep_capability(number: int) -> None:
    """Keeps one capability, and no other, for this process and what it executes."""
    bit = 1 << number
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low_and_high = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, low_and_high) != 0:
        raise OSError(NO_REACH)
    try:
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
    except OSError:
        raise OSError(NO_REACH) from None


def _die_with_parent(how: signal.Signals) -> None:
    _prctl(PR_SET_PDEATHSIG, how)


def _prctl(option: int, *values: int) -> None:
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def _watch(options: argparse.Namespace) -> int:
    signals, wakeup = os.pipe()
    for end in (signals, wakeup):
        os.set_blocking(end, False)
    # Python writes each signal's number there, so none is lost between two looks.
    signal.set_wakeup_fd(wakeup)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(options.command, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as problem:
        return _fail(CANNOT_RUN, f"{options.command[0]}: {problem.strerror}")
    if options.report is not None:
        os.write(options.report, b"%d\n" % child.pid)
        os.close(options.report)
    while child.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno(), signals], [], [])
        if signals in ready:
            for arrived in os.read(signals, 4096):
                if arrived in FORWARDED:
                    child.send_signal(arrived)
        elif not os.read(sys.stdin.fileno(), 1):
            _end(child, options.death, options.grace)
    code = int(child.returncode)
    return code if code >= 0 else 128 - code


def _end(child: "subprocess.Popen[bytes]", how: signal.Signals, grace: float) -> None:
    child.send_signal(how)
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
