"""The chat of Channels' tutorial, in one file: a consumer with groups of the in-memory layer, the sessions of Django,
and AllowedHostsOriginValidator around both. Nothing here knows wsguard."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="not a secret: for this test alone",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions", "channels"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    ASGI_APPLICATION=f"{__name__}.application",
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


def sign_in(request: HttpRequest, name: str) -> JsonResponse:
    request.session["user"] = name
    return JsonResponse({"worker": os.getpid()})


urlpatterns = [path("sign-in/<str:name>", sign_in)]


class ChatConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        self.user = self.scope["session"].get("user")
        self.group = f"chat_{self.scope['url_route']['kwargs']['room']}"
        if self.user is None:
            await self.close()
            return
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"worker": os.getpid()})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)
        await self.channel_layer.group_send(self.group, {"type": "chat.left", "user": self.user})

    async def receive_json(self, content: Any, **_: Any) -> None:
        message = {"type": "chat.message", "user": self.user, "text": content["text"]}
        await self.channel_layer.group_send(self.group, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"user": event["user"], "text": event["text"]})

    async def chat_left(self, event: dict[str, Any]) -> None:
        await self.send_json({"left": event["user"]})


class EchoConsumer(WebsocketConsumer):  # type: ignore[misc]
    """A consumer of the other kind: synchronous, on a thread."""

    def connect(self) -> None:
        self.accept("echo" if "echo" in self.scope["subprotocols"] else None)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data, bytes_data=bytes_data)
        if text_data == "bye":
            self.close(4002)


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            SessionMiddlewareStack(
                URLRouter([path("chat/<str:room>", ChatConsumer.as_asgi()), path("echo", EchoConsumer.as_asgi())])
            )
        ),
    }
)
