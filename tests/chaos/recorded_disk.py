"""A disk whose every write is recorded: an SQLite VFS around the usual one, made with ctypes.

The store runs unchanged on the interpreter's own ``sqlite3``; whatever SQLite writes, truncates, syncs or deletes goes
to the disk as always, and into a trace as well. ``power.py`` makes of a trace what a power cut would have left.
"""

from __future__ import annotations

import ctypes as c
import sqlite3
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Op(NamedTuple):
    """One thing that happened, in order; ``mark`` is what the program under test says of itself.

    ``offset`` of a sync is the length of the trace when it began: what came later it need not cover. ``data`` of an
    open or a sync names the open file.
    """

    what: Literal["open", "write", "truncate", "sync", "delete", "mark"]
    path: str
    offset: int = 0
    data: bytes = b""


class NoRecorder(RuntimeError):
    """This Python's SQLite cannot be reached with ctypes."""


_OPEN = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_void_p, c.c_int, c.POINTER(c.c_int))
_DELETE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_int)
_CLOSE = c.CFUNCTYPE(c.c_int, c.c_void_p)
_WRITE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_int, c.c_int64)
_TRUNCATE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int64)
_SYNC = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int)


class _Vfs(c.Structure):
    """``sqlite3_vfs`` up to its first version."""

    _fields_ = [
        ("iVersion", c.c_int),
        ("szOsFile", c.c_int),
        ("mxPathname", c.c_int),
        ("pNext", c.c_void_p),
        ("zName", c.c_char_p),
        ("pAppData", c.c_void_p),
        ("xOpen", _OPEN),
        ("xDelete", _DELETE),
        *((name, c.c_void_p) for name in ("xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose")),
        *((name, c.c_void_p) for name in ("xRandomness", "xSleep", "xCurrentTime", "xGetLastError")),
        *((name, c.c_void_p) for name in ("xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    ]


class _Methods(c.Structure):
    """``sqlite3_io_methods``, version 3."""

    _fields_ = [
        ("iVersion", c.c_int),
        ("xClose", _CLOSE),
        ("xRead", c.c_void_p),
        ("xWrite", _WRITE),
        ("xTruncate", _TRUNCATE),
        ("xSync", _SYNC),
        *((name, c.c_void_p) for name in ("xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl")),
        *((name, c.c_void_p) for name in ("xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock")),
        *((name, c.c_void_p) for name in ("xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch")),
    ]


class RecordedDisk:
    """Records what SQLite does to the files below ``folder``, in this process, from ``start`` on, for good.

    Attributes:
        ops: The trace. Only grows.
    """

    def __init__(self, folder: Path) -> None:
        self.ops: list[Op] = []
        self._folder = str(folder)
        self._lock = threading.Lock()
        self._library = _library()
        self._usual = self._find_vfs()
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []
        self._methods: dict[int, _Methods] = {}

    def start(self) -> None:
        """Makes the recording VFS the one that every later connection uses."""
        vfs = _Vfs()
        c.memmove(c.byref(vfs), c.byref(self._usual), c.sizeof(_Vfs))
        vfs.zName = b"recorded"
        vfs.pNext = None
        vfs.xOpen, vfs.xDelete = _OPEN(self._open), _DELETE(self._delete)
        self._kept.append(vfs)
        if self._library.sqlite3_vfs_register(c.byref(vfs), 1):
            raise NoRecorder("SQLite does not take another VFS")

    def mark(self, text: str) -> None:
        """Notes that the program is here: what it acknowledged, what it did to the world."""
        self._note(Op("mark", "", data=text.encode()))

    def _note(self, op: Op) -> None:
        with self._lock:
            self.ops.append(op)

    def _find_vfs(self) -> _Vfs:
        self._library.sqlite3_vfs_find.restype = c.POINTER(_Vfs)
        found = self._library.sqlite3_vfs_find(None)
        if not found:
            raise NoRecorder("SQLite has no VFS")
        return found.contents

    def _open(self, _: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # The name goes on as the pointer it is: SQLite keeps it, and reads what stands around it.
        code = self._usual.xOpen(c.addressof(self._usual), name, file, flags, out)
        path = "" if name is None else c.string_at(name).decode()
        # The pointer at the start of the file's struct leads to its methods; ours go before them.
        table = c.cast(file, c.POINTER(c.c_void_p))
        if code == 0 and table[0] and path.startswith(self._folder):
            with self._lock:
                self._names[file] = path
            self._note(Op("open", path, data=b"%d" % file))
            table[0] = c.addressof(self._around(int(table[0])))
        return int(code)

    def _around(self, usual: int) -> _Methods:
        if usual not in self._methods:
            theirs = c.cast(usual, c.POINTER(_Methods)).contents
            ours = _Methods()
            c.memmove(c.byref(ours), usual, c.sizeof(_Methods))

            def write(file: int, data: int, size: int, offset: int) -> int:
                code = int(theirs.xWrite(file, data, size, offset))
                self._note(Op("write", self._names[file], offset, c.string_at(data, size)))
                return code

            def truncate(file: int, size: int) -> int:
                code = int(theirs.xTruncate(file, size))
                self._note(Op("truncate", self._names[file], size))
                return code

            def sync(file: int, flags: int) -> int:
                began = len(self.ops)
                code = int(theirs.xSync(file, flags))
                self._note(Op("sync", self._names[file], began, b"%d" % file))
                return code

            ours.xWrite, ours.xTruncate, ours.xSync = _WRITE(write), _TRUNCATE(truncate), _SYNC(sync)
            self._methods[usual] = ours
        return self._methods[usual]

    def _delete(self, _: int, name: bytes, is_synced: int) -> int:
        code = int(self._usual.xDelete(c.addressof(self._usual), name, is_synced))
        if name.decode().startswith(self._folder):
            self._note(Op("delete", name.decode(), is_synced))
        return code


def _library() -> Any:
    """The SQLite library of this Python's ``sqlite3``, if it is one that others can reach."""
    import _sqlite3

    try:
        library = c.CDLL(_sqlite3.__file__)  # its symbols include those of the library it is linked to
        library.sqlite3_libversion.restype = c.c_char_p
        version = library.sqlite3_libversion().decode()
    except (AttributeError, OSError) as error:
        raise NoRecorder(f"the SQLite inside this Python cannot be reached: {error}") from error
    if version != sqlite3.sqlite_version:
        raise NoRecorder(f"ctypes reaches SQLite {version}, and Python has {sqlite3.sqlite_version}")
    return library
