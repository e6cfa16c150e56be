"""The contract of a construct: how to see it in an architecture, and small models that have it."""

from __future__ import annotations

from typing import ClassVar

from archtool.ir.architecture import Architecture


class Construct:
    """Something of the field's vocabulary that several operators say together.

    Class attributes:
        kind: its name in tables (``"topo.parallel"``).
        said: how it is said in the representation.
        papers: numbers of the papers that have it.
    """

    kind: ClassVar[str] = ""
    said: ClassVar[str] = ""
    papers: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def found(cls, arch: Architecture) -> bool:
        """Whether an architecture has it."""
        raise TypeError(f"{cls.kind} does not say how it is seen")

    @classmethod
    def samples(cls) -> tuple[Architecture, ...]:
        """Small models that have it, for the checks that every operator passes."""
        raise TypeError(f"{cls.kind} has no samples")
