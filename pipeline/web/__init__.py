"""The page and its API: the same few functions that the commands call, over HTTP.

``server``      puts it together, and serves
``service``     what every page has at hand: worker, counts, listeners
``worker``      the thread in which the pipeline runs
``guard``       stands before every request: name, origin, token, size
``hosts``, ``sessions``, ``keys``   names that are ours, who may come in, paths from requests
``answers``, ``requests``, ``models``, ``documented``, ``problems``   JSON and pages, in and out
``home``, ``images``, ``files``, ``jobs``, ``takedowns``, ``entry``, ``health``, ``events``   routes
``counts``, ``metrics``, ``archive``   counting beside, Prometheus, ZIP while it is sent

Nothing here decides anything about images.
"""
