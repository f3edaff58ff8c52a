"""What checks every request: name, origin, token, size.

``access``    who sends a request: somebody with a token or a session, or whom a proxy names
``attempts``  how often a wrong token may be tried
``guard``     the guard before every request: its name, its origin, its token, its size; and after
              it, headers
``hosts``     under which names the service may be requested, and from which pages
``keys``      paths from requests: each is a key of an original, or nothing at all
``proxies``   people whom a proxy has logged in: it names them, and their roles, in headers
``rates``     how often something may be requested: by one address, and by all together
``roles``     who sends a request, and which role each route needs
``sessions``  the session that a login gives a browser
"""
