"""A Django Channels chat that moves in: consumers, groups and sessions stay as they are, and so does the ASGI
application. daphne cannot be moved into; uvicorn can, alone or as gunicorn's worker.

    pip install ./bindings-python django channels uvicorn gunicorn uvicorn-worker
    cd examples/python
    SECRET_KEY=$(openssl rand -hex 32) python moving_channels.py

    SECRET_KEY=... WSGUARD_POLICY=moving_policy.json \\
        gunicorn moving_channels:application --workers 4 --worker-class moving_channels.Worker

What has changed is between the two marks below. Groups that reach every worker need channels_redis, as before.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions", "channels"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def sign_in(request: HttpRequest, name: str) -> HttpResponse:
    request.session["user"] = name  # after checking a password
    return HttpResponse(status=204)


urlpatterns = [path("sign-in/<str:name>", sign_in)]


class Chat(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    groups: ClassVar[list[str]] = ["chat"]

    async def connect(self) -> None:
        self.user = self.scope["session"].get("user")
        # Before accept: the peer gets a 403, and no WebSocket.
        await (self.accept() if self.user else self.close())

    async def receive_json(self, content: Any, **_: Any) -> None:
        await self.channel_layer.group_send("chat", {"type": "said", "user": self.user, "text": content["text"]})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send_json({"user": event["user"], "text": event["text"]})


websockets = URLRouter([path("chat", Chat.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(websockets)),
    }
)

# --- moved in: from here ---
try:
    from uvicorn_worker import UvicornWorker
except ImportError:  # only gunicorn needs it
    pass
else:

    class Worker(UvicornWorker):  # type: ignore[misc]
        CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
            **UvicornWorker.CONFIG_KWARGS,
            "ws": "wsguard.uvicorn:Protocol",
            "http": "wsguard.uvicorn:HttpProtocol",
        }


# --- to here; and `ws=` and `http=` below ---

if __name__ == "__main__":
    import uvicorn
    from wsguard.uvicorn import HttpProtocol, guard

    host, _, port = os.environ.get("SITE", "127.0.0.1:8000").rpartition(":")
    protocol = guard(origins=["http://localhost:*"], auth="none")
    uvicorn.run(application, host=host, port=int(port), ws=protocol, http=HttpProtocol)
