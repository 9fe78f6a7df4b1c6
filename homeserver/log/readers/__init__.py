"""Readers of the log: what must see every entry, once in a cluster, and lose none.

Federation destinations, application services, pushers, the search index and the audit ledger are readers. Each declares
(`types.Reader`) what it wants of the log, whom an entry concerns, and how it delivers; everything else is done here.

types    what a reader declares, and what it is handed
store    SQL of leases and cursors
slices   entries between two positions, from memory or from tables: one code path for running and catching up
cursor   one cursor: what is to be delivered to one other side, and when
runner   one reader while this process holds its lease: reading on, delivering, acknowledging
service  all readers of this process: takes, renews and gives up leases
figures  metrics and health
commands what `atrium readers` shows and does

How nothing is lost: the *scan position* of a reader says up to where every entry has been looked at. A cursor has a row of
its own only while something is left to deliver before that position, or something was acknowledged after it. So thousands
of cursors with nothing to do have no rows and cost nothing, and a process that takes over begins at the scan position and
the rows. What was acknowledged (`deliver` returned, and that is committed) is never delivered again; what was delivered
when the process died, before that was committed, is delivered again: at least once, in order.
"""
