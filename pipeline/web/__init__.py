"""The web page and its API: the same few functions that the commands call, over HTTP.

``server`` puts it together, ``guard`` stands before every request, ``worker`` runs what is asked
for, and the other modules are a page or two each. Nothing here decides anything about images.
"""
