"""Where a prompt stands in the text that a tokenizer received, character by character.

A pipeline may lower-case, normalise and clean a prompt, write a learned word of several vectors as several words, and
wrap all in a template. Lengths change with each of these, so every character of the encoded text is mapped to the
characters of the prompt that it comes from.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from diffvis_widget.traces.prompt_words import fold_word, split_words

Span = tuple[int, int]
"""Start and end of a run of characters."""

_ENTITY = re.compile(r"&(?:amp;)*(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
# textual inversion writes a word of three vectors as "<toy> <toy>_1 <toy>_2"
_LEARNED_WORD = re.compile(r"(\S{1,80}?)\s+\1_1(?!\d)")
_QUOTES = str.maketrans(
    {**dict.fromkeys("‘’‚‛`ʼ´", "'"), **dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‐‑–—−", "-")}
)


@dataclass(frozen=True)
class PromptPlace:
    """A prompt inside an encoded text.

    Attributes:
        start: Index of its first character in the encoded text.
        end: Index behind its last character.
        prompt: The prompt as typed, or the encoded text where the prompt does not occur in it.
        sources: For each character of the encoded text from `start` to `end`, the characters of `prompt` that it comes
            from; None for white space and for what the pipeline put in.
    """

    start: int
    end: int
    prompt: str
    sources: Sequence[Span | None]

    def source(self, start: int, end: int) -> Span | None:
        """Find what a run of encoded characters comes from.

        Args:
            start: Index of its first character in the encoded text.
            end: Index behind its last character.

        Returns:
            Start and end in `prompt`; None where none of the characters comes from it.
        """
        spans = [span for span in self.sources[max(start - self.start, 0) : max(end - self.start, 0)] if span]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    def following(self, index: int) -> int:
        """Find where the prompt continues.

        Args:
            index: Of a character of the encoded text.

        Returns:
            Start in `prompt` of the next character that comes from it; the prompt's length behind the last.
        """
        spans = (span for span in self.sources[max(index - self.start, 0) :] if span)
        return next((first for first, _ in spans), len(self.prompt))


@dataclass(frozen=True)
class _Canonical:
    """A text without white space, case and other differences that cleaning removes.

    Attributes:
        text: The canonical text.
        spans: For each of its characters, the characters of the original that it stands for.
    """

    text: str
    spans: list[Span]


def locate_prompt(encoded: str, typed: str, ends: Sequence[int] = ()) -> PromptPlace:
    """Locate a prompt in the text that a tokenizer received.

    Args:
        encoded: The text that the tokenizer received.
        typed: The prompt as typed.
        ends: Indices in the encoded text at which a prompt is likely to end: starts of special tokens.

    Returns:
        The place of the prompt, or of the whole text if the prompt does not occur in it.
    """
    return _locate(encoded, typed, ends) or PromptPlace(0, len(encoded), encoded, _identity(len(encoded)))


def prompt_occurs(encoded: str, typed: str) -> bool:
    """Whether a prompt stands in the text that a tokenizer received, perhaps cleaned.

    Args:
        encoded: The text that the tokenizer received.
        typed: The prompt as typed.

    Returns:
        True where every visible character of the prompt occurs, in one piece.
    """
    target = _canonical(typed).text
    return any(target in text.text for text in _canonical_forms(encoded))


def _locate(encoded: str, typed: str, ends: Sequence[int]) -> PromptPlace | None:
    if encoded == typed and not _LEARNED_WORD.search(encoded):
        return PromptPlace(0, len(encoded), typed, _identity(len(typed)))
    target = _canonical(typed)
    if not target.text:
        start = 0 if encoded.strip() == typed.strip() else len(encoded)
        return PromptPlace(start, len(encoded), typed, [None] * (len(encoded) - start))
    for canonical in _canonical_forms(encoded):
        start = _occurrence(canonical, target.text, (*ends, len(encoded)))
        if start is not None:
            stop = start + len(target.text)
            pairs = list(zip(canonical.spans[start:stop], target.spans, strict=True))
            first, last = pairs[0][0][0], pairs[-1][0][1]
            if start == 0 and stop == len(canonical.text):
                first, last = 0, len(encoded)
            else:  # white space around the prompt belongs to it as far as it was typed
                leading = len(typed) - len(typed.lstrip())
                trailing = len(typed) - len(typed.rstrip())
                first -= min(leading, first - len(encoded[:first].rstrip()))
                last += min(trailing, len(encoded) - last - len(encoded[last:].lstrip()))
            return _place(first, last, typed, pairs)
    return _place_by_words(encoded, typed)


def _identity(length: int) -> list[Span | None]:
    return [(index, index + 1) for index in range(length)]


def _canonical(text: str, learned_words: bool = False) -> _Canonical:
    characters: list[str] = []
    spans: list[Span] = []
    index = 0
    while index < len(text):
        end, written = index + 1, text[index]
        entity = _ENTITY.match(text, index) if written == "&" else None
        learned = _learned_word(text, index) if learned_words and not written.isspace() else None
        if entity is not None:
            end, written = entity.end(), html.unescape(html.unescape(html.unescape(entity[0])))
        elif learned is not None:
            end, written = learned
        folded = [part for part in fold_word(written.translate(_QUOTES)) if not part.isspace()]
        folded = [part for part in folded if unicodedata.category(part) != "Cc"]
        characters += folded
        spans += [(index, end)] * len(folded)
        index = end
    return _Canonical("".join(characters), spans)


def _learned_word(text: str, index: int) -> tuple[int, str] | None:
    """End of the learned word of several vectors that begins here, and its name."""
    match = _LEARNED_WORD.match(text, index)
    if match is None:
        return None
    end, count = match.end(), 2
    while further := re.compile(rf"\s+{re.escape(match[1])}_{count}(?!\d)").match(text, end):
        end, count = further.end(), count + 1
    return end, match[1]


def _canonical_forms(encoded: str) -> list[_Canonical]:
    """With learned words as they were typed, then letter by letter: a prompt may really contain "a a_1"."""
    plain = _canonical(encoded)
    return [_canonical(encoded, learned_words=True), plain] if _LEARNED_WORD.search(encoded) else [plain]


def _occurrence(canonical: _Canonical, target: str, ends: Sequence[int]) -> int | None:
    """Where the prompt begins: a short one may occur in the template too, so ends before special tokens come first."""
    starts: list[int] = []
    start = canonical.text.find(target)
    while start >= 0:
        starts.append(start)
        start = canonical.text.find(target, start + 1)
    exact: list[int] = []
    near: list[int] = []  # only white space lies between the prompt and the end
    for start in starts:
        stop = start + len(target)
        last = canonical.spans[stop - 1][1]
        following = canonical.spans[stop][0] if stop < len(canonical.spans) else max(ends)
        if last in ends:
            exact.append(start)
        elif any(last <= end <= following for end in ends):
            near.append(start)
    return (exact or near or starts or [None])[-1]


def _place(first: int, last: int, typed: str, pairs: Sequence[tuple[Span, Span]]) -> PromptPlace:
    sources: list[Span | None] = [None] * (last - first)
    for (start, end), (typed_start, typed_end) in pairs:
        for index in range(start - first, end - first):
            source = sources[index]
            sources[index] = (
                (typed_start, typed_end) if source is None else (min(source[0], typed_start), max(source[1], typed_end))
            )
    return PromptPlace(first, last, typed, sources)


def _place_by_words(encoded: str, typed: str) -> PromptPlace | None:
    """Align word by word, where cleaning removed or replaced some; None if fewer than half of the words are there."""
    encoded_words, typed_words = split_words(encoded), split_words(typed)
    sides = (encoded, encoded_words), (typed, typed_words)
    keys = [[_canonical(text[start:end]).text for start, end in words] for text, words in sides]
    blocks = SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes()
    equal = [index for index, block in enumerate(blocks) if block[0] == "equal"]
    if 2 * sum(blocks[index][4] - blocks[index][3] for index in equal) < len(typed_words):
        return None
    pairs: list[tuple[Span, Span]] = []
    for index, (kind, i, j, k, m) in enumerate(blocks):
        if kind not in ("equal", "replace"):
            continue
        # before and behind all that is equal a long replacement is the template
        inside = equal[0] < index < equal[-1]
        if kind == "replace" and not inside and j - i > 2 * (m - k):
            continue
        if j - i == m - k:
            pairs += zip(encoded_words[i:j], typed_words[k:m], strict=True)
        else:
            encoded_span = (encoded_words[i][0], encoded_words[j - 1][1])
            pairs.append((encoded_span, (typed_words[k][0], typed_words[m - 1][1])))
    first, last = pairs[0][0][0], pairs[-1][0][1]
    return _place(first, last, typed, pairs)
