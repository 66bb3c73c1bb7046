"""The hash that decides whether settings changed."""

import hashlib
import json

from vdm_pipeline.settings.base import Section


def fingerprint(*values: Section | str | int | dict | list | None) -> str:
    """Sixteen hex digits that change when a value changes; a section counts by its `fingerprint_values`."""
    plain = [value.fingerprint_values() if isinstance(value, Section) else value for value in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
