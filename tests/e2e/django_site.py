"""A Django site in one file, for gunicorn: a form with a CSRF token, a redirect, a static file, a streamed answer.

STARTUP_SECONDS (default 1.5) is how long its import takes, in each worker. /stream sends the next line only when
/seen has told that the one before was seen. Notes are kept in the process: one worker, several threads.
"""

import os
import threading
import time
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django.views.static import serve

LINES = 5

# tidy: allow-sleep this is the slow start-up itself
time.sleep(float(os.environ.get("STARTUP_SECONDS", "1.5")))

settings.configure(
    SECRET_KEY="of a test, and of nothing else",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

PAGE = engines["django"].from_string(
    """<!doctype html><html lang=en><meta charset=utf-8><title>Notes</title>
<link rel=icon href=/static/site.css><link rel=stylesheet href=/static/site.css>
<h1>Notes</h1><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<form method=post action=/add>{% csrf_token %}<input name=text><button>Add</button></form></html>"""
)
notes = []
told = {}


def page(request):
    return HttpResponse(PAGE.render({"notes": notes}, request))


@require_POST
def add(request):
    notes.append(request.POST["text"])
    return redirect("/")


def stream(request):
    who = request.GET["who"]

    def lines():
        for number in range(LINES):
            told[who] = threading.Event()
            yield f"{number}\n"
            told[who].wait(20)
        yield "over\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


@csrf_exempt
@require_POST
def seen(request):
    told[request.GET["who"]].set()
    return HttpResponse(status=204)


urlpatterns = [
    path("", page),
    path("add", add),
    path("stream", stream),
    path("seen", seen),
    path("static/<path:path>", serve, {"document_root": Path(__file__).parent / "django_static"}),
]
application = get_wsgi_application()
