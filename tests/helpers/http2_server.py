"""A server that speaks HTTP/2 only: the least that a test of the client needs.

What a path begins with says how it is answered: ``/reset`` ends its stream, ``/goodbye`` answers
and then ends the connection as one does that was used often enough, ``/nul`` has bytes in its
headers that no text should hold, ``/status`` a status of a thousand digits.
"""

from __future__ import annotations

import asyncio
import ssl
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings


class Http2Server:
    """Answers every request with ``body``, over TLS; counts connections and requests."""

    def __init__(self, tls: ssl.SSLContext, body: bytes, max_streams: int | None = None) -> None:
        self._max_streams = max_streams
        tls.set_alpn_protocols(["h2"])
        self.connections = 0
        self.paths: list[str] = []
        self._tls = tls
        self._body = body
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        config = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        connection = h2.connection.H2Connection(config)
        if self._max_streams is not None:
            code = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
            connection.local_settings = h2.settings.Settings(
                client=False, initial_values={code: self._max_streams}
            )
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = dict(event.headers)
                    path = headers[b":path"].decode()
                    self.paths.append(path)
                    answer = [(":status", "200"), ("content-type", "image/jpeg")]
                    if path.startswith("/reset"):
                        connection.reset_stream(
                            event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM
                        )
                        continue
                    if path.startswith("/nul"):
                        answer = [(":status", "200"), ("etag", '"\0"'), ("content-type", "a\r\nb")]
                    if path.startswith("/status"):
                        answer = [(":status", "9" * 1000)]
                    connection.send_headers(event.stream_id, answer)
                    # Small enough for the window that every stream begins with.
                    size = connection.max_outbound_frame_size
                    for start in range(0, len(self._body), size):
                        piece = self._body[start : start + size]
                        connection.send_data(event.stream_id, piece)
                    connection.end_stream(event.stream_id)
                    if path.startswith("/goodbye") and event.stream_id > 7:
                        connection.close_connection(last_stream_id=event.stream_id)
                        writer.write(connection.data_to_send())
                        await writer.drain()
                        writer.close()
                        return
            writer.write(connection.data_to_send())
            await writer.drain()
