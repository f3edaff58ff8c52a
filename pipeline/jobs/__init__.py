"""Jobs: CSVs of products in, pictures fetched, answered CSVs out.

What people ask for; the commands and the page call these, and hold no logic:

===============  ====================================================================
``submit``       hand in a CSV
``questions``    one job, all of them, what failed, the answer, the renditions
``changes``      work a job now, delete it, ask for its images again
===============  ====================================================================

The steps of a run, each on tables and files:

===============  ====================================================================
``steps``        the steps as ``app.py`` declares them
``store``        the rows of jobs, and the rooms of the state folder
``copies``       copies of CSVs that are at work, and what killed submissions left
``scanning``     the CSVs below ``input/`` against the jobs
``reading``      a CSV is copied, checked, and compared with its rows
``fetching``     the URLs that wait are asked
``recording``    how each ended: journal, then table
``images``       fetched bytes as originals of jobs; what nobody needs is removed
``outcomes``     what became of each image
``answering``    the answered CSV
``telling``      webhooks, after the run
``foresight``    what the next run would do
===============  ====================================================================

The parts that know no tables: they read, check, fetch, name and write.

===============  ====================================================================
``csv_read``     find the faults of a CSV of products; iterate over its rows
``csv_dialect``  how one CSV is written: encoding, separator, line ends, columns
``csv_answer``   write the answered CSV, the faults, the rows that failed
``names``        references of jobs and file names of job images
``addresses``    which network addresses may be fetched from
``urls``         which URLs may be asked for, and the URLs of a cell
``resolver``     from a host name to addresses that were judged
``network``      connections to judged addresses only
``transport``    httpx over these connections
``decoding``     undo Content-Encoding within a limit of bytes
``blobs``        files named by their SHA-256, each content once
``schedule``     whose turn it is: limits at once, a host, and a second
``fetch_types``  the limits, requests and results of the fetch
``attempt``      one attempt: redirects, body, what may be tried again
``watch``        the deadline of one transfer
``fetch``        one URL, every end a result; and many of them
``webhook``      tell another system that a job ended
===============  ====================================================================
"""
