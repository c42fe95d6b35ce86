"""The gateway's admin address, as far as OPA needs it, on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from gateway.access.bundle_server import BundleServer, bundle_routes

TOKEN = "a-token-of-this-run"


@contextmanager
def admin_address(bundles: BundleServer) -> Iterator[str]:
    """Serve these bundles; yields the root URL."""
    app = FastAPI()
    app.include_router(bundle_routes(bundles, TOKEN))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            bundles.close()
            server.should_exit = True
            thread.join()
