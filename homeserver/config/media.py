"""Files people share."""

from __future__ import annotations

from pydantic import Field

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


class MediaSection(Section):
    """Files people share."""

    path: AnyPath | None = None
    """Where they are kept. Default: media in data_dir."""

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

    previews: bool = True
    """Whether the server looks up the web pages people write about, to show a title and a picture."""
