"""The rooms feature, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.pages import Pages
from homeserver.graph.read.related import Related
from homeserver.rooms import suspension
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.aliases import AliasService
from homeserver.rooms.autojoin import AutoJoin
from homeserver.rooms.by_address import InvitesByAddress
from homeserver.rooms.by_timestamp import EventsByTimestamp
from homeserver.rooms.by_timestamp_api import ByTimestampApi
from homeserver.rooms.canonical_alias import AliasCheck
from homeserver.rooms.creation import CreationService
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.entries import AliasesChangedSink, ForgetSink
from homeserver.rooms.guests import LOOK_EVERY, GuestAccess
from homeserver.rooms.history import HistoryService
from homeserver.rooms.membership import MembershipService
from homeserver.rooms.membership_api import MembershipApi
from homeserver.rooms.memberships import Memberships
from homeserver.rooms.mutual import MutualRooms
from homeserver.rooms.mutual_api import MutualRoomsApi
from homeserver.rooms.older import OlderHistory
from homeserver.rooms.own_membership import OwnMembership
from homeserver.rooms.permissions import Permissions
from homeserver.rooms.ports import AddressBook, Profiles
from homeserver.rooms.reading import ReadingService
from homeserver.rooms.reading_api import AliasesApi, ReadingApi
from homeserver.rooms.sending import SendingService
from homeserver.rooms.sending_api import SendingApi
from homeserver.rooms.state_answers import StateAnswers
from homeserver.rooms.successors import Successors
from homeserver.rooms.upgrade import UpgradeService
from homeserver.rooms.upgrade_api import UpgradeApi
from homeserver.runtime.periodic import every
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


def _aliases(core: Core) -> AliasService:
    return AliasService(
        core.db,
        core.graph,
        core.rooms,
        core.events,
        core.interning,
        core.log,
        gate=core.gate,
        server_name=core.server_name,
    )


class RoomsFeature:
    """Services and endpoints of rooms."""

    def __init__(self, config: Config, core: Core, profiles: Profiles) -> None:
        self._core = core
        self.memberships = Memberships(core.db, core.tail, core.memory)
        self.access = RoomAccess(core.db, core.rooms, core.events, core.states, self.memberships)
        self.aliases = _aliases(core)
        self.successors = Successors(self.memberships, core.events, core.interning)
        self.elsewhere = Elsewhere(core.graph, core.rooms, core.receiver, core.server_name)
        self.creation = CreationService(
            core.graph,
            core.db,
            profiles,
            core.gate,
            core.entropy,
            successors=self.successors,
            elsewhere=self.elsewhere,
            server_name=core.server_name,
            default_version=ROOM_VERSIONS[config.rooms.default_version],
        )
        self.membership = self._membership(config, core, profiles)
        self.guests = GuestAccess(core.db, core.rooms, core.events, self.membership)
        self.upgrades = UpgradeService(
            core.db,
            core.graph,
            core.rooms,
            profiles,
            core.gate,
            self.successors,
            core.entropy,
            core.server_name,
        )
        self._own_and_sending(config, core)
        self._reading(config, core)
        self._policy = [
            Permissions(config.rooms).check,
            AliasCheck(core.db, core.rooms, core.events).check,
            suspension.CHECK,
        ]

    def _membership(self, config: Config, core: Core, profiles: Profiles) -> MembershipService:
        return MembershipService(
            core.graph,
            core.log,
            core.rooms,
            core.events,
            profiles,
            core.gate,
            self.successors,
            self.elsewhere,
            forget_on_leave=config.rooms.forget_on_leave,
        )

    def _own_and_sending(self, config: Config, core: Core) -> None:
        self.own = OwnMembership(
            core.graph, core.rooms, self.memberships, core.interning, core.tail, self.elsewhere
        )
        self.autojoin = AutoJoin(
            self.aliases, self.membership, core.interning, config.registration.autojoin_rooms
        )
        self.sending = SendingService(
            core.db,
            core.graph,
            core.rooms,
            core.events,
            core.interning,
            core.transactions,
            core.gate,
            self.successors,
            self.elsewhere,
        )
        self.sending_api = SendingApi(self.sending)

    def invite_by_address_with(self, book: AddressBook) -> None:
        """Plug in who knows whose an address is."""
        by_address = InvitesByAddress(
            self._core.rooms, self._core.events, self.membership, self.sending, book
        )
        self.creation.invite_with(by_address)
        self._membership_api.invite_with(by_address)

    def _reading(self, config: Config, core: Core) -> None:
        self._related = related = Related(core.db, core.memory)
        self.bundles = Bundles(core.db, core.interning, core.events, core.visibility, related, core.clock)
        self._answers = answers = StateAnswers(core.rooms, core.events, core.clock, core.memory)
        self.reading = ReadingService(
            core.db,
            self.access,
            self.bundles,
            self.memberships,
            core.interning,
            core.events,
            core.visibility,
            answers,
            core.clock,
        )
        self._membership_api = MembershipApi(self.creation, self.membership, self.aliases, self.reading)
        self.mutual = MutualRooms(core.db, self.memberships, core.interning)
        self.pages = pages = Pages(core.db, core.tail, core.memory)
        self.older = OlderHistory(pages)
        self.by_timestamp = EventsByTimestamp(core.db, self.access, core.events, core.visibility, pages)
        self.history = HistoryService(
            pages,
            self.access,
            self.bundles,
            core.interning,
            core.events,
            core.states,
            core.visibility,
            core.clock,
            config.limits.page,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        guests = self.guests
        return Manifest(
            name="rooms",
            apis=[
                self._membership_api,
                UpgradeApi(self.upgrades),
                self.sending_api,
                ReadingApi(self.reading, self.history),
                AliasesApi(self.aliases, self.access),
                ByTimestampApi(self.by_timestamp),
                MutualRoomsApi(self.mutual),
            ],
            sinks=[ForgetSink(), AliasesChangedSink()],
            policy=self._policy,
            projections=[self.memberships, guests, self._related, self.pages, self._answers],
            periodic=[every(LOOK_EVERY, guests.once, name="rooms.guests", wake=guests.wake, first=0.0)],
        )
