"""A crash test: random changes, kills at any writing system call, and an oracle that looks on.

    python -m tests.kills --rounds 100 --seed 1     # without a seed, one of its own
    python -m tests.kills --seed 1 --round 17       # that round again, with its story

A round builds a project, changes it at random, starts a command that is killed in the middle,
does so up to three times, lets one `datapipe run` heal it all, and asks the oracle.

``interpose.c``  counts the system calls that write, in every process of a command, and acts at one
``preload.py``   compiles it, and arms it
``shop.py``      the project of a round; its commands, in forked children of a warm process
``changes.py``   what people do to a project
``rounds.py``    one round: its story and its problems
``oracle.py``    what must hold; imports nothing of ``pipeline``
``__main__.py``  the command
"""
