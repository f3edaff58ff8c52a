"""Jobs: the life of a CSV, from its scan to its result CSV and webhook.

``acts``       submit a CSV, run a job now, delete it, fetch its images again
``answering``  the result CSV
``context``    what the parts of this room work with, by name
``copies``     copies of CSVs in the state folder: those in use, and leftovers
``dropping``   CSVs among the photos that are no lists of products: told once, and left alone
``failed``     images that could not be fetched, and fetching them once more
``fetching``   request the URLs that are waiting
``forms``      how the CSV of a job is read, and what is stored of that
``images``     fetched bytes as originals of jobs; unused ones are removed
``names``      references of jobs and file names of job images
``originals``  the images of jobs as originals: their bytes, their recipes
``outcomes``   the outcome of each image
``previewing`` what the reading of CSVs would do
``questions``  one job, all of them, what failed, the result CSV, the renditions
``reading``    a CSV is copied, checked, and compared with its rows
``recording``  how each fetch ended: journal, then table
``requesting`` which URLs are requested next, in turns between jobs
``results``    result CSVs in the output folder, compared with the jobs
``rounds``     what is fetched during a run is rendered and answered while other steps go on
``scanning``   the CSVs below ``input/`` against the jobs
``slices``     the images of one job that are to be rendered, a few at a time
``steps``      the steps as ``app.py`` declares them
``store``      the rows of jobs, and paths inside the state folder
``uploads``    CSVs that wait for somebody to name their columns
``webhooks``   webhooks, after the run
"""
