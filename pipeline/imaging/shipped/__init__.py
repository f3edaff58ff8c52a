"""Functions that come with Lockstep: a recipe or a feature names one without a module.

``palette``    the dominant colours of a picture
``size``       width, height, format and bytes of the original
``thumbhash``  a placeholder of some 25 bytes
"""
