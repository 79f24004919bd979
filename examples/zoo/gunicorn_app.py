"""The same FastAPI server under gunicorn, whose arbiter listens before any worker has started: early clients hang in
the kernel's backlog, and are served, late, in any order.

    greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- gunicorn --chdir examples/zoo -k uvicorn_worker.UvicornWorker -w 1 -b 127.0.0.1:{port} gunicorn_app:app
"""

from fastapi_good import app

__all__ = ["app"]
