"""Settings: environment variables (or ``.env``) with the prefix ``PIPELINE_``.

``load``     environment variables, or ``.env``, to settings: read once at start
``parsing``  text of a variable to its value. Invalid values raise a ``ValueError`` that says what
             is allowed
``places``   folders that must not overlap
``values``   every setting, once: its field, its variable, its default and how its text is read
"""
