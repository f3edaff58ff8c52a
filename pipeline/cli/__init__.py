"""The commands: what people type, and what they read.

``backup``    ``datapipe backup``: a copy of the database while runs go on
``blocklist`` ``datapipe blocklist``: import, export, list and remove lists of hashes
``commands``  the commands of Lockstep, added to datapipe's own through its entry point
              ``datapipe.cli``
``common``    what the commands share: options, exit codes, the application, errors, JSON
``init``      ``datapipe init``: a project of one's own, in a folder of its own
``jobs``      ``datapipe job``: follow CSVs of products, and fetch their results
``mapping``   the options that say which columns of a CSV are which
``project``   the project in the working folder: its ``app.py`` is the one that is loaded
``progress``  progress on stderr: a bar with rate and time left on a terminal, plain lines
              on request
``quiet``     what a run says where nobody watches, as under cron: nothing, unless there is
              something new
``register``  adding the commands to datapipe's own, through its entry point ``datapipe.cli``
``review``    ``datapipe review``: what was held or reported; publish it, take it down, or undo
              that
``serve``     ``datapipe serve``: the page and its API, with the pipeline inside
``similar``   ``datapipe similar``: originals that look like one, or like what is blocked
``submit``    ``datapipe job submit``: a CSV of products becomes a job
``takedown``  ``datapipe takedown``: take originals down for good, list who did it and why, and
              reinstate them
``takedown_many``  ``datapipe takedown many`` and ``resume``: many originals as one entry of the
              audit
``terminal``  the one place where text is written to a terminal or a log
``users``     ``datapipe user``: who may use the page, and as what
``watch``     ``datapipe watch``: keeps everything in step as files change
"""
