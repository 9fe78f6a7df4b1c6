"""What can go wrong between this server and its database, in words for the person who runs it."""

from __future__ import annotations

import psycopg


class StorageError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


class OutcomeUnknown(StorageError):
    """The database did not say whether something was written, and cannot be asked; the request may be repeated."""


class DatabaseBusy(StorageError):
    """Another server already runs on this data directory."""


class SchemaMismatch(StorageError):
    """The database's schema is not the one this version needs."""


class UnstorableText(psycopg.DataError):
    """A text with U+0000 or half a surrogate pair in it, which no `text` column holds. Found before anything is sent, so
    that the transaction it was meant for is not lost. The message names the parameter, never the text.
    """
