"""The base of every parameter class: unknown keys and wrong types are errors, values are frozen."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ConfigError(ValueError):
    """A configuration that cannot be run: one sentence naming the key, the value and what is allowed."""
