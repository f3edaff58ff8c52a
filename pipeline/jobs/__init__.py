"""Jobs: a CSV's life, from its scan to its result CSV and webhook.

``acts``       submit a CSV, work on a job now, delete it, fetch its images again
``answering``  the result CSV
``context``    what the parts of this room work with, by name
``copies``     copies of CSVs in the state folder: what a living process is at work on, and what
               is left over
``fetching``   the URLs that are waiting are requested
``foresight``  what the next run would do
``images``     fetched bytes as originals of jobs; what nobody needs is removed
``names``      references of jobs and file names of job images
``outcomes``   what became of each image
``questions``  one job, all of them, what failed, the result CSV, the renditions
``reading``    a CSV is copied, checked, and compared with its rows
``recording``  how each fetch ended: journal, then table
``scanning``   the CSVs below ``input/`` against the jobs
``steps``      the steps as ``app.py`` declares them
``store``      the rows of jobs, and paths inside the state folder
``webhooks``   webhooks, after the run
"""
