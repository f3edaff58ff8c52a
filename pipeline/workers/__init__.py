"""Workers: processes that read an original once, hash it, and make its renditions.

``carrying``    carries files between buckets and workers, which have no connection
``local``       workers: processes that read an original once, hash it, and make its renditions
``reasons``     why a task failed, where its worker says nothing or the system is to blame
``results``     what the main process accepts from a worker
``sandbox``     confine this process: few folders, no connection, no other program
``starting``    starts worker processes, by a fork server that has loaded what they need
``tasks``       the tasks of a worker, and their outcomes
``tracebacks``  the log of what functions raised in workers
``worker``      inside a worker process: one original is read, hashed and rendered
"""
