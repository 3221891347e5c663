"""Drawings as SVG text: no library, no script, colours by the page's style sheet, so that they follow its theme."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Literal

Anchor = Literal["start", "middle", "end"]
WIDE = 560
"""Units of drawings that a narrow screen makes so small that their words need larger letters."""
CHARACTER = 6.1
"""About the width of a character of the labels, in the drawing's units."""


@dataclass
class Drawing:
    """A drawing of a fixed size in units; the page scales it.

    Attributes:
        width: Units.
        height: Units.
        title: What it shows, for people who do not see it.
    """

    width: float
    height: float
    title: str
    _parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "axis") -> None:
        """Draw a line."""
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def rect(  # noqa: PLR0917 - place and size are one thing
        self, x: float, y: float, width: float, height: float, style: str, tip: str = "", *, ink: float = 1
    ) -> None:
        """Draw a filled rectangle; `ink` is its opacity, `tip` is shown under the pointer."""
        shown = f' fill-opacity="{ink:.3f}"' if ink < 1 else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}" rx="1.5" '
            f'class="{style}"{shown}>{_tip(tip)}</rect>'
        )

    def dot(self, x: float, y: float, style: str, tip: str = "", *, radius: float = 4) -> None:
        """Draw a dot."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{style}">{_tip(tip)}</circle>')

    def text(self, x: float, y: float, words: str, *, anchor: Anchor = "start", style: str = "label") -> None:
        """Write words; `y` is their base line."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>'
        )

    def svg(self) -> str:
        """Return the drawing."""
        size = f"min-width:{min(0.6 * self.width, 320):.0f}px;max-width:{self.width * 1.25:.0f}px"
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" aria-label="{escape(self.title)}" '
            f'class="{"wide" if self.width >= WIDE else "narrow"}" style="{size}">{"".join(self._parts)}</svg>'
        )


@dataclass(frozen=True)
class Scale:
    """A linear map from values to units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value lies, held within the ends."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values between the ends."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = _round_step(span / about)
        first = int(self.low / step) - 1
        values = [round(k * step, 10) for k in range(first, first + 4 * about + 4)]
        return [value for value in values if self.low - 1e-9 * span <= value <= self.high + 1e-9 * span]


def _round_step(step: float) -> float:
    power = 1.0
    while power > step:
        power /= 10
    while power * 10 <= step:
        power *= 10
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= step)


def cut(words: str, most: int) -> str:
    """Return words that fit, the end kept: names of layers differ there."""
    return words if len(words) <= most else f"…{words[1 - most :]}"


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
