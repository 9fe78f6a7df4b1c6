"""The processes of one host write as one: they hand their appends to the one that leads, which writes them together.

election   who leads: whoever holds a lock on a file, which the kernel takes from the dead; and what the others do when it dies
leader     takes appends from the others, and tells them everything that is written, as bytes, in order
follower   hands appends over, and applies what it is told
channel    their socket, read when something comes or when somebody asks
frames     what they say to each other over a Unix socket

Correctness rests on PostgreSQL alone (the lock on the head, and what is checked under it): a process that finds nobody to
hand to writes by itself. See docs/decisions/0016-processes-of-a-host.md.
"""
