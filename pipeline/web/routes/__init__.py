"""The routes: a file for each page.

``entry``      entry: logging in and out, the files of the pages themselves, and the reference of
               the API
``events``     server-sent events: a page hears that something has moved, and fetches what it
               shows anew
``files``      files over HTTP: renditions by their rows, and originals for the page that shows
               them
``health``     health and metrics, for those who watch the service
``home``       home: is all in step? And the recipes, what failed, and trying it again
``images``     images: the gallery, and the page of one original
``jobs``       jobs: handing in a CSV of products, finding it again, and taking home what came of
               it
``takedowns``  takedowns: taking originals down for good, the audit of it, and lifting it again
"""
