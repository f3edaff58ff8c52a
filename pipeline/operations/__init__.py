"""Operations: one function for each, for both the command and the page.

``backup``   a copy of the database as it is at one moment, while runs go on
``bulks``    one act on many originals: recorded, stopped, resumed, and listed
``bulk_work``  doing it, one original after the other; it can be interrupted anywhere
``explain``  explain: what is known about one original, what the next run would do with it, and why
``failures``  failures: all that failed, by the code of its reason
``features``  features: what functions said of the originals, in the order of their paths
``gallery``  the gallery: originals a page at a time, with their renditions
``history``  what happened to originals: the history of one, and those that takedowns removed
``listing``  which originals, in which order, from which place on, and how many
``preview``  the preview of a run: each of its steps says what it would do, and nothing is written
``retry``    marking failed renditions, and on request those of an older renderer, for a retry
``status``   status: how much is in step, what failed and why, what is pending. Reads, never writes
``verdict``  the verdict: is everything in step?
``verify``   verify: the files of ``output/`` against the rows that say what should be there
"""
