"""Jobs: CSVs of products in, pictures fetched, answered CSVs out.

This package holds the parts that know no tables: they read, check, fetch, name and write.

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
``sniff``        what a file is by its first bytes
``schedule``     whose turn it is: limits at once, a host, and a second
``fetch_types``  the limits, requests and results of the fetch
``attempt``      one attempt: redirects, body, what may be tried again
``watch``        the deadline of one transfer
``fetch``        one URL, every end a result; and many of them
``webhook``      tell another system that a job ended
===============  ====================================================================
"""
