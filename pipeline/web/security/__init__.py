"""What stands before every request: name, origin, token, size.

``guard``     the guard before every request: its name, its origin, its token, its size; and after
              it, headers
``hosts``     under which names the service may be asked for, and from which pages
``keys``      paths from requests: each is a key of an original, or nothing at all
``sessions``  who may come in: the token of ``PIPELINE_TOKEN``, and the session that a log-in
              gives a browser
"""
