"""Fetching: one URL, safely; and many of them. It knows no tables.

``addresses``  which network addresses may be fetched from
``attempt``    one attempt: redirects, body, what may be tried again
``client``     one URL, every outcome a result; and many of them
``deadline``   the deadline of one transfer
``decoding``   decode Content-Encoding within a limit of bytes
``delivery``   deliver a webhook to another system
``network``    connections to validated addresses only
``resolver``   from a host name to validated addresses
``schedule``   scheduling: limits on concurrency, per host, and per second
``signing``    signatures of webhooks, by the Standard Webhooks scheme
``transport``  httpx over these connections
``types``      the limits, requests and results of the fetch
``urls``       which URLs may be requested, and the URLs of a cell
"""
