"""Workers: processes that read an original once, hash it, and make its renditions.

``local``   workers: processes that read an original once, hash it, and make its renditions
``tasks``   what a worker is asked, and what it answers
``worker``  inside a worker process: one original is read, hashed and rendered
"""
