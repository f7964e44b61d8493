"""What every section of the settings shares: frozen, unknown keys refused, a few typed words."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


URL = r"^https?://[^\s/?#]+[^\s?#]*$"
Url = Annotated[str, Field(pattern=URL)]


class Section(BaseModel):
    """Part of the settings: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
