"""Operations: one function for each, for both the command and the page.

``explain``  explain: what is known about one original, what the next run would do with it, and why
``features``  features: what functions said of the originals, in the order of their paths
``gallery``  the gallery: originals in the order of their keys, a page at a time, with their
             renditions
``history``  what happened to originals: the history of one, and those that takedowns removed
``preview``  the preview of a run: each of its steps says what it would do, and nothing is written
``retry``    marking failed renditions, and on request those of an older renderer, for a retry
``status``   status: how much is in step, what failed and why, what is pending. Reads, never writes
``verify``   verify: the files of ``output/`` against the rows that say what should be there
"""
