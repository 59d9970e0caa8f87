"""What an error of Postgres means: bad data, a passing fault, or something to stop for."""

from __future__ import annotations

from typing import Literal

import psycopg

DATA_CLASSES = ("22", "23", "54")
PASSING_CLASSES = ("08", "40", "53", "55", "57")
Fault = Literal["data", "passing", "fatal"]


def fault_of(error: BaseException) -> Fault:
    """What to do about an error: SQLSTATE classes 22, 23, 54 are bad data, 08, 40, 53, 55, 57 pass.

    A DataError without SQLSTATE (NUL) and a lone surrogate, which the driver itself refuses, are bad data; an
    OperationalError without one is a lost connection.
    """
    if isinstance(error, UnicodeEncodeError):
        return "data"
    if not isinstance(error, psycopg.Error):
        return "fatal"
    if error.sqlstate is None:
        if isinstance(error, psycopg.DataError):
            return "data"
        return "passing" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else "fatal"
    if error.sqlstate[:2] in DATA_CLASSES:
        return "data"
    return "passing" if error.sqlstate[:2] in PASSING_CLASSES else "fatal"
