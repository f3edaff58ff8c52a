"""What checks every request: name, origin, token, size.

``attempts``  how often a wrong token may be tried
``guard``     the guard before every request: its name, its origin, its token, its size; and after
              it, headers
``hosts``     under which names the service may be requested, and from which pages
``keys``      paths from requests: each is a key of an original, or nothing at all
``rates``     how often something may be requested: by one address, and by all together
``sessions``  who has access: the token of ``PIPELINE_TOKEN``, and the session that a login gives a
              browser
"""
