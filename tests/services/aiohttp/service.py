"""A real service that ages: aiohttp 3.10.10 with one middleware leaks on every 404 (CVE-2024-52303).

Nothing here leaks by itself: the framework caches the middlewares of every match information object, and a
path that does not exist makes a new one. aiohttp 3.10.11 runs the same file without leaking.
"""

import argparse
import asyncio
import os

from aiohttp import web

BACKEND = os.environ.get("BATON_BACKEND", "-")
LONGEST_SLOW_MS = 600_000
TRICKLE_SECONDS = 0.1
LOG: web.AppKey[int] = web.AppKey("log")


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """Names the backend and echoes the request's id, before the first byte of every answer."""
    response.headers["x-baton-backend"] = BACKEND
    if request_id := request.headers.get("x-request-id"):
        response.headers["x-request-id"] = request_id


@web.middleware
async def log_execution(request: web.Request, handler):
    """The one middleware: adds a line for each executed request to the log, if there is one."""
    if log := request.app[LOG]:
        line = f"{request.headers.get('x-request-id', '-')} {BACKEND} {request.method} {request.path}\n"
        os.write(log, line.encode())
    return await handler(request)


async def work(request: web.Request) -> web.Response:
    """A short answer."""
    return web.Response(text=f"{request.headers.get('x-request-id', '-')}\n")


async def slow(request: web.Request) -> web.StreamResponse:
    """An answer whose body takes `ms` milliseconds."""
    text = request.query.get("ms", "3000")
    if not text.isdecimal() or int(text) > LONGEST_SLOW_MS:
        raise web.HTTPBadRequest(text=f"`{text}` is not allowed for ms: use 0 to {LONGEST_SLOW_MS}\n")
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(max(1, round(int(text) / 1000 / TRICKLE_SECONDS))):
        await asyncio.sleep(TRICKLE_SECONDS)
        await response.write(b"still working\n")
    await response.write_eof()
    return response


async def health(_: web.Request) -> web.Response:
    """Tells that requests are answered."""
    return web.Response(text="ok\n")


def application(log: int | None) -> web.Application:
    """The routes; every other path is a 404, and leaks."""
    app = web.Application(middlewares=[log_execution])
    app[LOG] = log
    app.on_response_prepare.append(mark)
    app.add_routes([web.get("/work", work), web.get("/slow", slow), web.get("/health", health)])
    return app


def main() -> None:
    """Reads the command line and serves until SIGTERM."""
    parser = argparse.ArgumentParser(description="a real service that leaks on every 404")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--execution-log", metavar="FILE", help="file to which each executed request adds a line")
    options = parser.parse_args()
    log = None
    if options.execution_log:
        log = os.open(options.execution_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    web.run_app(application(log), host=options.host, port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
