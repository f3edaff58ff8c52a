"""Workers: processes that read an original once, hash it, and make its renditions.

``base``        what a run needs of its workers, wherever these are
``board``       the tasks of a run between who submits them and who hands them to nodes
``cluster``     the connection to a Ray cluster: the one place that knows Ray
``crew``        the nodes that work for one run: which there are, and which has which task
``carrying``    carries files between buckets and workers, which have no connection
``local``       workers: processes that read an original once, hash it, and make its renditions
``node``        a node of a cluster: the pool of local processes, driven from elsewhere
``on_ray``      workers on the nodes of a Ray cluster
``reasons``     why a task failed, where its worker says nothing or the system is to blame
``results``     what the main process accepts from a worker
``sandbox``     confine this process: few folders, no connection, no other program
``shared``      whether another machine has the same release, and sees the same folders
``starting``    starts worker processes, by a fork server that has loaded what they need
``tasks``       the tasks of a worker, and their outcomes
``tracebacks``  the log of what functions raised in workers
``worker``      inside a worker process: one original is read, hashed and rendered
"""
