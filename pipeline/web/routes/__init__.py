"""The routes: a file for each page.

``audit``      the audit: what was taken down, by whom and why, and the whole story of each
``bulks``      bulks: one act on many originals, its progress and its list; and many as a ZIP
``entry``      entry: logging in and out, the files of the pages themselves, and the reference of
               the API
``events``     server-sent events: a page learns that something has changed, and fetches what it
               shows again
``failed``     failed: what failed, by reason, and retrying it
``files``      files over HTTP: renditions by their rows, and originals for the page that shows
               them
``health``     health and metrics, for those who watch the service
``home``       home: is everything in step? And the recipes
``images``     images: the gallery, and the page of one original
``jobs``       jobs: uploading a CSV of products, finding it again, and downloading the results
``notifications`` notifications: the store of a bucket tells which originals have changed
``reports``    reports: the "report this picture" button of a shop
``review``     review: what was held or reported, one at a time or as a grid, and deciding about it
``similar``    similar originals: those that look like one, with thumbnails
``takedowns``  takedowns: taking originals down for good, and reinstating them
``uploads``    uploads whose headers are not known: a role for each column
"""
