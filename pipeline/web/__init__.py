"""The page and its API: the same few functions that the commands call, over HTTP.

Nothing here decides anything about images.

``answers``     JSON and pages, out
``archive``     a ZIP while it is sent
``counts``      counting beside the requests
``documented``  the API described in OpenAPI
``metrics``     Prometheus
``models``      what JSON comes and goes
``problems``    errors as problem documents
``requests``    JSON and forms, in
``routes``      the routes: a file for each page
``security``    what stands before every request: name, origin, token, size
``server``      puts it together, and serves
``service``     what every page has at hand: lane, counts, listeners
"""
