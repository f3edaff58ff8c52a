"""The database: connection, transactions, locks, layout, tracked tables, change tracking.

``ahead``        querying the database in a thread, while the main thread does something else
``tracking``     datapipe-core's change tracking, with a change query that stays linear
``connection``   the database: reading, writing in one transaction, and locks
``dialects``     what differs between databases; nothing else checks which one it is
``forgetting``   forgetting rows that are gone, once every step that reads them has seen that
``keys``         the type of keys, and how long ones are stored where an index cannot hold them
``layout``       tables: created where they are missing, refused where they are of another layout
``locks``        locks by name that die with their process
``long_keys``    keys that are too long for an index of MySQL, in full
``marks``        what is remembered of each record of a user's step
``mysql``        MySQL and MariaDB: connections, and what a person is told of them
``mysql_sql``    SQL as MySQL and MariaDB have it
``paging``       long results and long lists, in pieces of bounded size
``pool``         pools of connections, for processes of many threads that live long
``records``      what a user's step works on, and the query for what is pending of it
``state``        what Lockstep remembers: layout, clock, the input folder, and unfinished work
``tracked``      tracked tables: tables of datapipe-core, written by few statements
``transaction``  one transaction, and the time that its rows have
``upserts``      the statements that insert rows, or move some columns of those that are there
"""
