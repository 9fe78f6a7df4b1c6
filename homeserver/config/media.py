"""Files people share."""

from __future__ import annotations

from pydantic import Field

from homeserver.config.base import AnyPath, Duration, Section, Size


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

    previews: bool = True
    """Whether the server looks up the web pages people write about, to show a title and a picture."""
