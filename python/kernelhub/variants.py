# SPDX-License-Identifier: Apache-2.0
"""Decisions about build variants, as values."""

from __future__ import annotations

from dataclasses import dataclass

from kernelhub import _kernelhub


@dataclass(frozen=True)
class Framework:
    """What a variant needs of the process, as its part of the name, e.g. torch211-cxx11."""

    variant_str: str


@dataclass(frozen=True)
class Arch:
    """Machine of a binary build: backend with version, CPU, operating system."""

    backend: str
    platform: str
    os: str

    @property
    def variant_str(self) -> str:
        """Part of the name of the variant."""
        return f"{self.backend}-{self.platform}-{self.os}"


@dataclass(frozen=True)
class Noarch:
    """Backend of a pure Python build, or 'universal'."""

    backend_name: str

    @property
    def variant_str(self) -> str:
        """Part of the name of the variant."""
        return self.backend_name


@dataclass(frozen=True)
class Variant:
    """A build variant: framework and machine."""

    framework: Framework
    arch: Arch | Noarch

    @property
    def variant_str(self) -> str:
        """Name of the variant directory."""
        return f"{self.framework.variant_str}-{self.arch.variant_str}"


@dataclass(frozen=True)
class VariantAccepted:
    """A variant that fits this process."""

    variant: Variant


@dataclass(frozen=True)
class VariantRejected:
    """A variant that does not fit, and why."""

    variant: Variant
    reason: str


def from_decision(decision: _kernelhub.VariantDecision) -> VariantAccepted | VariantRejected:
    """The public value of one line of a resolution trace."""
    variant = _parse(decision.variant)
    return (
        VariantAccepted(variant) if decision.accepted else VariantRejected(variant, decision.reason)
    )


def _parse(name: str) -> Variant:
    parsed = _kernelhub.Variant.parse(name)
    if parsed is None:
        raise ValueError(f"'{name}' is not the name of a build variant")
    arch: Arch | Noarch
    if parsed.is_noarch:
        framework, _, backend = name.partition("-")
        arch = Noarch(backend)
    else:
        arch = Arch(parsed.backend or "", parsed.cpu, parsed.os)
        framework = name[: -len(arch.variant_str) - 1]
    return Variant(Framework(framework), arch)
