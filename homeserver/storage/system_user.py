"""Runs PostgreSQL's programs as somebody else when Atrium runs as root, which PostgreSQL refuses to be.

Nothing is created and no permission outside the data directory is changed: an existing account is used, and where
the way to the programs or the data leads through a folder closed to that account (`/root`), the child keeps one
capability to pass through it.

A normal user without a name (a number that the container was given, with no entry in `/etc/passwd`) runs PostgreSQL as
itself; only the programs that make a cluster ask for a name, and get one in a user namespace of their own.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from homeserver.storage.errors import StorageError

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = (
    1,
    8,
    28,
    47,
    2,
)
_SECBIT_NO_SETUID_FIXUP = 4
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_SETPCAP = 1, 2, 8
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522

_ACCOUNTS = ("atrium", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Whom PostgreSQL runs as: user and group number, and the capability it needs to reach its files, if any."""

    uid: int
    gid: int
    capability: int | None = None
    looks_first: bool = False
    """Whether PostgreSQL asks with access(2) if it may use its programs, before it does. The kernel answers that by the
    user alone, without capabilities, unless the process is told to treat no user number specially."""


def choose_user(data: Path) -> SystemUser | None:
    """The account for PostgreSQL on this data directory; None when we are not root and it simply runs as we do.

    An existing database keeps its owner.

    Raises:
        StorageError: root, and none of the usual accounts exists.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return SystemUser(owner.st_uid, owner.st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(entry.pw_uid, entry.pw_gid)
    raise StorageError(
        "PostgreSQL does not run as root, and none of the accounts "
        f"{', '.join(_ACCOUNTS)} exists to run it as; make one: useradd --system atrium"
    )


def with_way_in(user: SystemUser, program: Path, folders: Iterable[Path]) -> SystemUser:
    """The same user, with a capability if it could not run `program` or reach `folders` without.

    Raises:
        StorageError: it needs one, and this process has none to give (a hardened container).
    """
    can_run = _allowed(program, user, stat.S_IXUSR)
    looks_first = not (can_run and _reachable(program, user))
    if not looks_first and all(_reachable(path, user) for path in folders):
        return user
    useful = [_CAP_DAC_OVERRIDE] if not can_run else [_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE]
    ours = _permitted_capabilities()
    if not looks_first or ours >> _CAP_SETPCAP & 1:
        for capability in useful:
            if ours >> capability & 1:
                return SystemUser(user.uid, user.gid, capability, looks_first)
    raise StorageError(
        f"PostgreSQL has to run as user {user.uid}, who may not enter {_blocker(program, folders, user)}; "
        "install Atrium and its data where every user may enter, or run it as a normal user"
    )


def name_needed() -> int | None:
    """A user number that has a name, if ours has none; None if it has one, or nobody has.

    Container platforms run programs under numbers of which `/etc/passwd` knows nothing.
    """
    if os.geteuid() == 0:
        return None
    named = {entry.pw_uid for entry in pwd.getpwall()} - {0}
    return None if os.geteuid() in named or not named else max(named)


def child_setup(
    user: SystemUser | None, *, at_death: signal.Signals = signal.SIGINT, named: int | None = None
) -> Callable[[], None]:
    """What a child does before it becomes PostgreSQL: change its user, and ask to be sent `at_death` if we die.

    The kernel sends the signal when the *thread* that started the child ends, so it is asked for only when that
    is the main thread. `named`: let it see this number as its own, in a user namespace; raises `OSError` in the child
    where the system allows none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    bound = threading.current_thread() is threading.main_thread()
    parent = os.getpid()

    def setup() -> None:
        if user is not None:
            _become(libc, user)
        if named is not None:
            _appear_as(libc, named)
        if bound:
            libc.prctl(_PR_SET_PDEATHSIG, at_death, 0, 0, 0)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

    return setup


def chown_tree(root: Path, user: SystemUser) -> None:
    """Give a folder with all it contains to `user`."""
    os.chown(root, user.uid, user.gid)
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            os.chown(Path(folder, name), user.uid, user.gid, follow_symlinks=False)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _become(libc: ctypes.CDLL, user: SystemUser) -> None:
    if user.capability is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if user.looks_first and libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0:
        os._exit(126)
    os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)
    if user.capability is not None:
        bit = 1 << user.capability
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        data = (_CapabilityData * 2)(_CapabilityData(bit, bit, bit), _CapabilityData(0, 0, 0))
        if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
            os._exit(126)
        if libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, user.capability, 0, 0) != 0:
            os._exit(126)


def _appear_as(libc: ctypes.CDLL, uid: int) -> None:
    ours, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {ours} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _permitted_capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def _allowed(path: Path, user: SystemUser, owner_bit: int) -> bool:
    """Whether the owner bit, or the one that counts for this user, is set (owner, group, others)."""
    entry = path.stat()
    if entry.st_uid == user.uid:
        return bool(entry.st_mode & owner_bit)
    if entry.st_gid == user.gid:
        return bool(entry.st_mode & (owner_bit >> 3))
    return bool(entry.st_mode & (owner_bit >> 6))


def _reachable(path: Path, user: SystemUser) -> bool:
    return all(_allowed(folder, user, stat.S_IXUSR) for folder in path.resolve().parents)


def _blocker(program: Path, folders: Iterable[Path], user: SystemUser) -> Path:
    for path in (program, *folders):
        for folder in reversed(path.resolve().parents):
            if not _allowed(folder, user, stat.S_IXUSR):
                return folder
    return program
