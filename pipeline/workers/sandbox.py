"""Confine this process for good: few folders, no connection, no other program.

Decoders parse untrusted bytes, in C. On Linux a worker therefore gives up, before it reads the
first original, what decoding does not need: files by Landlock (landlock(7), Linux 5.13), and system
calls that Landlock does not cover by seccomp (seccomp(2)). Neither needs any privilege, and neither
can be undone. The libraries for Python are young, and have no seccomp; this is all we need of both.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import WorkersError

# linux/landlock.h. The three system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_READ = _READ_FILE | _READ_DIR
# Temporary files are written, and deleted where rendering fails. No link, no device, no reading.
_STAGE = _WRITE_FILE | _MAKE_REG | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR
# How many rights each version of the interface can deny; version 2 added moving files between
# folders, 3 truncating them, 5 the control of devices.
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP, _SCOPES = 0b11, 0b11  # bind and connect (4); abstract sockets and signals (6)

# linux/seccomp.h, linux/prctl.h, linux/filter.h
_NO_NEW_PRIVILEGES, _SET_FILTER, _KEEP_SPECULATION = 38, 1, 4
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_X32 = 0x40000000


class _Machine(NamedTuple):
    """An architecture: its number in linux/audit.h, that of seccomp(2), and what is refused."""

    number: int
    seccomp: int
    refused: tuple[int, ...]


# Refused: sockets of every kind, also by io_uring; changing mode, owner, times or attributes of
# files, or their length by name, none of which Landlock checks (the length since version 3).
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        317,
        (
            *(41, 42, 43, 49, 50, 53, 288, 425),  # socket, connect, accept ... io_uring_setup
            *(76, 90, 91, 92, 93, 94, 260, 268, 452),  # truncate, chmod, chown and their like
            *(132, 188, 189, 190, 197, 198, 199, 235, 261, 280, 463, 466),  # utime, xattr
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        277,
        (
            *(198, 199, 200, 201, 202, 203, 242, 425),
            *(45, 52, 53, 54, 55, 452),
            *(5, 6, 7, 14, 15, 16, 88, 463, 466),
        ),
    ),
}

# Where shared libraries are, and what allocators and thread pools ask for the processors.
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/urandom", "/sys/devices/system/cpu")

# Which file is the folder of that name: its device and inode.
Identity = tuple[int, int] | None


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


@functools.lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why there can be no sandbox on this system, in a few words; ``None`` if there can."""
    if sys.platform != "linux":
        return "only Linux has one"
    if _machine() is None:
        return f"not yet available for {os.uname().machine}"
    if _version() < 1:
        return "the kernel or the container has no Landlock"
    return None


def confine(readable: Iterable[str], writable: Iterable[str]) -> dict[str, Identity]:
    """Confine this thread and those that it starts; call it before there is any other.

    Folders that are missing, or that this user cannot open, are left out. The answer says which
    folder each name stood for: one that takes its place later is not covered.

    Raises:
        WorkersError: the kernel refuses.
    """
    version, machine = _version(), _machine()
    if machine is None or version < 1:
        raise WorkersError("the workers cannot be confined: " + (why_not() or "no Landlock"))
    handled = (1 << _RIGHTS_BY_VERSION.get(version, 16)) - 1
    attributes = _Ruleset(handled, _TCP * (version >= 4), _SCOPES * (version >= 6))
    size = ctypes.sizeof(attributes)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for place in (*_own_code(), *_SYSTEM, *_DEVICES):
            _allow(ruleset, place, _READ)
        known = {place: _allow(ruleset, place, _READ) for place in readable}
        known |= {place: _allow(ruleset, place, _STAGE) for place in writable}
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise WorkersError("the workers cannot be confined: prctl(2) refuses")
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    _filter_calls(machine)
    return known


def identity(folder: str) -> Identity:
    """Which folder this name stands for now; ``None`` for none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _own_code() -> set[str]:
    """Python's own libraries, the installed packages, and this package.

    Not all of ``sys.path``: where ``app.py`` is, the database is as well.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {sysconfig.get_path(name) for name in names}
    paths |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    return {*paths, str(Path(__file__).parents[1])}


def _allow(ruleset: int, place: str, rights: int) -> Identity:
    try:
        handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISDIR(status.st_mode):
            rights &= _READ_FILE | _WRITE_FILE
        rule = _PathBeneath(rights, handle)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(handle)
    return status.st_dev, status.st_ino


def _filter_calls(machine: _Machine) -> None:
    # Not for all threads at once (SECCOMP_FILTER_FLAG_TSYNC): Landlock is not either, so one that
    # was there before shows in /proc as not filtered.
    refused = [(_IF_EQUAL, number) for number in machine.refused]
    checks = [(_IF_AT_LEAST, _X32), *refused] if machine.number == 0xC000003E else refused
    count = len(checks)
    program = [
        (_LOAD, 0, 0, 4),
        (_IF_EQUAL, 0, count + 2, machine.number),  # another one's calls have other numbers
        (_LOAD, 0, 0, 0),
        *((code, count - at, 0, number) for at, (code, number) in enumerate(checks)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    filters = _Program(len(program), packed)
    _call(machine.seccomp, _SET_FILTER, _KEEP_SPECULATION, ctypes.byref(filters))


@functools.lru_cache(maxsize=1)
def _version() -> int:
    """The version of Landlock that this kernel speaks; 0 for none."""
    version: int = _libc().syscall(_CREATE_RULESET, None, 0, _VERSION)
    return max(version, 0)


def _machine() -> _Machine | None:
    is_64_bit = struct.calcsize("P") == 8
    return _MACHINES.get(os.uname().machine) if is_64_bit else None


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(*arguments: object) -> int:
    answer: int = _libc().syscall(*arguments)
    if answer < 0:
        reason = os.strerror(ctypes.get_errno())
        raise WorkersError(
            f"the workers cannot be confined: system call {arguments[0]} is refused ({reason}); "
            "set PIPELINE_SANDBOX=off if this system does not allow it"
        )
    return answer
