"""Files people share."""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from homeserver.config.base import AnyPath, Duration, Section, Size


class ThumbnailSection(Section):
    """Smaller pictures, made in processes of their own."""

    processes: int = Field(default=2, ge=1, le=64)
    """How many of these processes there may be for each process of the server. They run only while there is something to do,
    and give way to everything else."""

    memory: Size = Field(default=1 << 30, ge=256 << 20)
    """Address space of such a process; what needs more gets no thumbnail."""

    timeout: Duration = Field(default=10.0, ge=1, le=120)
    """CPU time for one thumbnail."""

    max_source: Size = Field(default=50 << 20, ge=0)
    """The largest file that gets thumbnails."""

    max_pixels: int = Field(default=60_000_000, ge=0)
    """The most pixels of a picture that gets thumbnails."""

    max_frames: int = Field(default=150, ge=1)
    """The most frames of an animation whose thumbnail moves; that of a longer one stands still."""


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value.startswith("/") or (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return value
    raise ValueError("the path of a Unix socket is expected, or host:port")


class S3Section(Section):
    """A bucket of any store that speaks S3, instead of a folder. Needs: pip install atrium-homeserver[s3]. What comes in still goes
    through media.path first.
    """

    bucket: str = Field(pattern=r"[0-9A-Za-z._-]{3,255}", examples=["atrium-media"])
    """Its name. It must be there, and nothing else may be in it under the prefix."""

    endpoint: str | None = Field(default=None, pattern=r"https?://\S+", examples=["https://s3.example.com"])
    """Where the store is; Amazon's, if left out."""

    region: str = "us-east-1"
    """Which many stores do not care about."""

    access_key: str | None = None
    """With the secret key; without them, what the environment or the machine's role says."""

    secret_key: SecretStr | None = None
    """Goes with the access key."""

    prefix: str = Field(default="", pattern=r"([0-9A-Za-z._-]+/)*")
    """What all keys begin with; ends with a slash."""

    path_style: bool = True
    """Whether the bucket stands in the path, as most stores that are not Amazon's want it; else it is part of the host name."""

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key, secret_key: one without the other is of no use")
        if importlib.util.find_spec("obstore") is None:
            raise ValueError("the package obstore is not installed: pip install atrium-homeserver[s3]")
        return self


class ScannerSection(Section):
    """ClamAV's clamd. What it finds nobody is given; what it cannot look at nobody is given until it can."""

    address: Annotated[str, AfterValidator(_address)] = Field(examples=["/run/clamav/clamd.ctl"])
    """Its Unix socket, or host:port."""

    timeout: Duration = Field(default=60.0, ge=1, le=600)
    """How long it may take for one file."""

    too_large: Literal["refuse", "deliver"] = "refuse"
    """What becomes of files that it does not take because of its StreamMaxLength: refuse (nobody is given them) or deliver."""


def _host(pattern: str) -> str:
    if re.fullmatch(r"(\*\.)?[0-9a-z-]+(\.[0-9a-z-]+)*|\[[0-9a-f:.]+\]", pattern) is None:
        raise ValueError(
            "a host name in lower case is expected, or *. and a domain; names of other scripts as xn--…"
        )
    return pattern


Host = Annotated[str, AfterValidator(_host)]


class PreviewSection(Section):
    """Looking up the web pages people write about, to show a title and a picture. Private addresses are never asked, unless
    outbound.allow_private.previews names them.
    """

    enabled: bool = True
    """False: no page is looked up. Whoever writes a link into a message makes this server ask for it, which says that it was
    written here; clients do not ask in encrypted rooms unless they are told to."""

    allow: tuple[Host, ...] = Field(default=(), examples=[["*.example.com", "wikipedia.org"]])
    """Only these hosts are asked; all, if left out. *.example.com is every host below example.com."""

    deny: tuple[Host, ...] = Field(default=(), examples=[["*.ads.example"]])
    """These are not, and where they are redirected to neither."""

    timeout: Duration = Field(default=15.0, ge=1, le=120)
    """How long a page with its picture may take."""

    max_image: Size = Field(default=10 << 20, ge=0)
    """The largest picture that is taken from a page."""

    kept: Duration = Field(default=3600.0, ge=60)
    """How long the same preview is shown without asking again."""

    language: str = Field(default="en", pattern=r"[0-9A-Za-z,;=.* -]{1,100}")
    """What is asked for in Accept-Language."""


class MediaSection(Section):
    """Files people share."""

    path: AnyPath | None = None
    """Where they are kept. Default: media in data_dir. Several hosts of one server need one folder (NFS, for example), or s3."""

    s3: S3Section | None = None
    """A bucket of any store that speaks S3, instead of the folder. Where several hosts share a database this, or one folder
    that all of them see."""

    max_upload: Size = Field(default=50 << 20, ge=0)
    """The largest file somebody may upload, and the largest that is taken from another server."""

    quota_per_user: Size | None = None
    """How much room all files of a person may take; any if left out. Files count 4 KiB at least."""

    pending_uploads: int = Field(default=20, ge=1)
    """How many addresses somebody may have that they have not uploaded to yet."""

    pending_lifetime: Duration = Field(default=86400.0, ge=60)
    """How long such an address lasts."""

    unauthenticated: bool = False
    """Whether files that come in from now on can be fetched without logging in, as before Matrix 1.11; older clients and
    bridges need it. What came in while this was true stays open to all who know its address."""

    local_kept: Duration | None = Field(default=None, ge=3600)
    """After how long without use a file of a user of this server is deleted; never if left out."""

    remote_kept: Duration | None = Field(default=None, ge=3600)
    """After how long without use a copy of another server's file is deleted; never if left out."""

    thumbnails: ThumbnailSection = ThumbnailSection()
    """Smaller pictures, made in processes of their own."""

    scanner: ScannerSection | None = None
    """What scans files before anybody is given them; without it nothing is scanned."""

    previews: PreviewSection = PreviewSection()
    """Looking up the web pages people write about, to show a title and a picture."""
