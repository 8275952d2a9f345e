"""A forward proxy as old networks have them: HTTP/1.1 that it understands, no CONNECT, no TLS.

A request in absolute form is passed on to where it asks for; after an answer of 101 bytes go both ways.
"""

import asyncio
import urllib.parse


async def carry(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, version = head.split("\r\n")[0].split(" ")
    print(method, target, flush=True)
    if method == "CONNECT" or not target.startswith("http://") or version != "HTTP/1.1":
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        return
    url = urllib.parse.urlsplit(target)
    there, to = await asyncio.open_connection(url.hostname, url.port or 80)
    to.write(head.replace(target, url.path or "/", 1).encode("latin-1"))
    await asyncio.gather(carry(reader, to), carry(there, writer), return_exceptions=True)


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 3128)
    print("serving", flush=True)
    await server.serve_forever()


asyncio.run(main())
