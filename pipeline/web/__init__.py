"""The page and its API: the same functions that the commands call, over HTTP.

Nothing here decides anything about images.

``addresses``    whole URLs of files, of the host that was asked
``answers``      JSON and pages, out
``archive``      a ZIP that is created while it is sent
``background``   the thread that does what is asked for many originals at once
``checks``       two threads that read CSVs, and the queue before them
``connections``  limits on connections and requests, before anybody has logged in
``counts``       counting in the background
``desk_gauges``  Prometheus, of takedowns, reviews and blocked hashes
``documented``   the API described in OpenAPI
``failed_models``  the shapes of JSON of what failed
``listeners``    open pages, and the one poll for all of them
``lists``        which list of originals a request is about
``metrics``      Prometheus
``models``       the shapes of JSON, in and out
``previews``     pictures of originals that have no rendition, for those who decide about them
``problems``     errors as problem documents
``requests``     JSON and forms, in
``routes``       the routes: a file for each page
``security``     what checks every request: name, origin, token, size
``server``       puts everything together, and serves
``submissions``  what the form of a new job sends
``service``      what every page uses: lane, counts, listeners
``stored``       objects of a bucket, passed on or by a signed address
"""
