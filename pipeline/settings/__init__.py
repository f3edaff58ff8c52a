"""Settings: environment variables (or ``.env``) with the prefix ``PIPELINE_``.

``load``     environment variables, or ``.env``, to settings: read once at start
``parsing``  text of a variable to its value. What cannot work is a ``ValueError`` that says what
             to give
``places``   folders that must not lie in one another
``values``   every setting, once: its field, its variable, its default and how its text is read
"""
