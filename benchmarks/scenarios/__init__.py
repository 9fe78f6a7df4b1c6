"""All scenarios, in the order of the report. One file per kind of request."""

from __future__ import annotations

from benchmarks.scenario import Scenario
from benchmarks.scenarios.appservices import AppserviceLag
from benchmarks.scenarios.e2ee import ChangeDevice, QueryKeys, UploadOneTimeKeys
from benchmarks.scenarios.fanout import CalmFanOut, FanOut, PacedFanOut
from benchmarks.scenarios.federation import (
    CatchUp,
    DeadDestinations,
    InboundInTurn,
    InboundManyRooms,
    InboundOneRoom,
    InboundSingly,
    JoinTwentyThousand,
    JoinTwoThousand,
    Outbound,
)
from benchmarks.scenarios.finding import Hierarchy, HierarchyAlone, PublicRooms, Search
from benchmarks.scenarios.hostile import (
    DeviceFlood,
    Extremities,
    ForeignTyping,
    Forged,
    Gaps,
    ToDeviceFlood,
    UnknownRooms,
)
from benchmarks.scenarios.media import DownloadFiles, ThumbnailStorm, UploadFiles
from benchmarks.scenarios.members import JoinedMembers, Members, RoomState
from benchmarks.scenarios.paging import Paging
from benchmarks.scenarios.register import Register
from benchmarks.scenarios.rooms import CreateRoom, Join, JoinOneByOne
from benchmarks.scenarios.send import SendToManyRooms, SendToOneRoom
from benchmarks.scenarios.sliding import (
    BusyLarge,
    BusySliding,
    IdleLarge,
    IdleSliding,
    SlidingAll,
    SlidingLarge,
    SlidingWindow,
)
from benchmarks.scenarios.soak import Soak
from benchmarks.scenarios.sync import BusySync, IdleSync, InitialSync
from benchmarks.scenarios.to_device import ClaimKeys, DrainToDevice, SendToDevice

SCENARIOS: tuple[type[Scenario], ...] = (
    Register,
    CreateRoom,
    Join,
    JoinOneByOne,
    SendToOneRoom,
    SendToManyRooms,
    FanOut,
    CalmFanOut,
    PacedFanOut,
    InitialSync,
    IdleSync,
    BusySync,
    SlidingWindow,
    SlidingAll,
    SlidingLarge,
    IdleSliding,
    BusySliding,
    IdleLarge,
    BusyLarge,
    Hierarchy,
    HierarchyAlone,
    PublicRooms,
    Search,
    Paging,
    UploadOneTimeKeys,
    QueryKeys,
    ChangeDevice,
    SendToDevice,
    DrainToDevice,
    ClaimKeys,
    JoinedMembers,
    Members,
    RoomState,
    UploadFiles,
    DownloadFiles,
    ThumbnailStorm,
    Soak,
    InboundOneRoom,
    InboundInTurn,
    InboundManyRooms,
    InboundSingly,
    Outbound,
    JoinTwoThousand,
    JoinTwentyThousand,
    CatchUp,
    DeadDestinations,
    Forged,
    UnknownRooms,
    Gaps,
    Extremities,
    ForeignTyping,
    DeviceFlood,
    ToDeviceFlood,
    AppserviceLag,
)
