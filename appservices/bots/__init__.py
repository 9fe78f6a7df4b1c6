"""An SDK for bots, on the public application-service API alone: it imports nothing of the server, and runs with others, too.

See docs/bots.md.
"""

from appservices.bots.arguments import Duration, UserId
from appservices.bots.bot import Bot, everybody, from_here
from appservices.bots.client import Client
from appservices.bots.context import Context
from appservices.bots.errors import BotError, NotConfigured, Refused, Unreachable
from appservices.bots.events import Event, Member, Message, Reaction
from appservices.bots.state import State
from appservices.bots.streams import Stream

__all__ = [
    "Bot",
    "Context",
    "Client",
    "Duration",
    "UserId",
    "Event",
    "Message",
    "Reaction",
    "Member",
    "State",
    "Stream",
    "BotError",
    "NotConfigured",
    "Refused",
    "Unreachable",
    "everybody",
    "from_here",
]
