"""Searching messages, room names and topics.

words     what of an event is searched, and how it stands in the index and in a query
indexer   keeps the index: a reader of the log; what a redaction or deletion takes away goes by a trigger in the same transaction
rebuild   goes through the whole log again: after an upgrade, or when somebody asks for it
window    the newest of what matches in rooms the reader knows, in steps of bounded work
readable  which rooms, up to where, and which of the matches the reader may see
around    what stood around a result
tokens    where a page of results ends
service   puts an answer together
commands  what `atrium search` shows and does

spec: client-server-api/#server-side-search (CHECKLIST SRCH-01, SRCH-02); docs/decisions/0019-search.md
"""
