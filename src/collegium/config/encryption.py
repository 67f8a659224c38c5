"""``[encryption]``: what is stored encrypted, and under which key."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EncryptionSection(BaseModel):
    """``[encryption]``: with one of `kek_file`, `kek_variable` or `kms`, what is stored is encrypted per tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kek_file: Path | None = Field(
        default=None,
        description="File with the key of 256 bits that encrypts data keys: raw, hexadecimal or base64.",
    )
    kek_variable: str | None = Field(
        default=None, min_length=1, description="Environment variable with that key, hexadecimal or base64."
    )
    kms: str | None = Field(
        default=None, min_length=3, description="`module:factory` of a key service; see docs/how-to/encryption.md."
    )
    kms_options: dict[str, str] = Field(default={}, description="What the factory is called with.")
    previous_kek_files: list[Path] = Field(
        default=[], description="Keys that older data keys may be encrypted with, until `collegium rotate-kek` is done."
    )
    previous_kek_variables: list[str] = Field(default=[], description="The same, in environment variables.")
    sqlcipher: bool = Field(
        default=False,
        description="Encrypt SQLite files as a whole too, with SQLCipher: ids, times, indexes, messages, the search "
        "index. Needs the extra `[sqlcipher]`; a store that is there is moved, see docs/how-to/encryption.md.",
    )
    refresh_s: float = Field(
        default=5.0, ge=0.05, le=3_600, description="How soon a process knows of keys that were added or destroyed."
    )

    @property
    def is_on(self) -> bool:
        """Whether a key is configured."""
        return any(one is not None for one in (self.kek_file, self.kek_variable, self.kms))

    @model_validator(mode="after")
    def _is_one(self) -> EncryptionSection:
        given = [name for name in ("kek_file", "kek_variable", "kms") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}: the others belong into previous_kek_files")
        if not given and (self.previous_kek_files or self.previous_kek_variables):
            raise ValueError("there are previous keys and none for now: give kek_file, kek_variable or kms")
        if self.sqlcipher and not given:
            raise ValueError("sqlcipher needs a key that guards those of files: give kek_file, kek_variable or kms")
        return self
