"""Files people share."""

from __future__ import annotations

from pydantic import Field

from homeserver.config.base import AnyPath, Duration, Section, Size


class MediaSection(Section):
    """Files people share."""

    path: AnyPath | None = None
    """Where they are kept. Default: media in data_dir."""

    max_upload: Size = Field(default=50 << 20, ge=0)
    """The largest file somebody may upload."""

    unauthenticated: bool = False
    """Whether files can be fetched without logging in, as before Matrix 1.11; older clients and bridges need it."""

    remote_kept: Duration | None = Field(default=None, ge=3600)
    """After how long without use a copy of another server's file is deleted; never if left out."""

    previews: bool = True
    """Whether the server looks up the web pages people write about, to show a title and a picture."""
