"""What a caller meant: a name, yes or no, goodbye, "pardon?". Pure, by a language's word lists.

The lists are short and the rules are plain on purpose. A receptionist reads back what it took
down, so a wrong guess costs one more question, while a clever rule that cannot be explained costs
trust. The order of caution: a "no" anywhere outweighs any "yes", a long utterance is neither, and
a name ends before the first word that no name holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.conversation.lexicon import Kind, Lexicon, lexicon
from gateway.conversation.words import Phrases, Word, clean, norms, split

NAME_WORDS_MAX = 4
#: A yes or a no in a longer utterance may belong to something else.
YES_NO_WORDS_MAX = 10

# "John Smith is my name": as many words may follow a name that was not introduced.
_WORDS_AFTER_NAME_MAX = 3


def yes_no(text: str, language: str) -> bool | None:
    """True for yes, False for no (any "no" wins), None when it is neither."""
    said, lists = norms(text), lexicon(language).words
    if len(said) > YES_NO_WORDS_MAX:
        return None
    at, agreed = 0, False
    while at < len(said):
        agrees, refuses = lists.yes.match(said, at), lists.no.match(said, at)
        if refuses > agrees:
            return False
        agreed |= agrees > 0
        at += max(agrees, 1)
    return agreed or None


def is_goodbye(text: str, language: str) -> bool:
    """Whether the caller says goodbye, and nothing else that matters."""
    lists = lexicon(language).words
    return lists.goodbye.cover(norms(text), lists.fillers)


def wants_repeat(text: str, language: str) -> bool:
    """Whether the caller asks for the question again, and nothing else that matters."""
    lists = lexicon(language).words
    return lists.repeat.cover(norms(text), lists.fillers)


def says_nothing(text: str, language: str) -> bool:
    """Whether there is no word beyond greetings, yes, no, thanks and hesitations."""
    said, lists = norms(text), lexicon(language).words
    small_talk = lists.small_talk.cover(said, lists.fillers)
    return not said or small_talk or lists.fillers.cover(said)


def name(text: str, language: str, *, introduced: bool) -> str:
    """The name that the caller gives, as it was written; "" for none.

    With ``introduced`` only a phrase like "my name is" counts. Without it "this is" counts too,
    and so does an utterance that is nothing but a name: the answer to "what is your name?".
    """
    cleaned, lists = clean(text), lexicon(language)
    words = split(cleaned)
    found = _introduced(words, lists, lists.words.name_is)
    if not found and not introduced:
        found = _introduced(words, lists, lists.words.name_maybe) or _bare(words, lists)
    parts = [found] if found else []
    surname = _introduced(words, lists, lists.words.surname_is)
    if surname and found:
        parts = [_given(words, found, surname, lists), surname]
    written = " ".join(cleaned[part[0].start : part[-1].end] for part in parts if part)
    return _nominative(_capitalised(written), lists)


def _given(
    words: Sequence[Word], found: Sequence[Word], surname: Sequence[Word], lists: Lexicon
) -> Sequence[Word]:
    """The name that goes before the surname; it may have been said after it."""
    if found[0].start != surname[0].start:
        said, last = [[word.norm for word in part] for part in (found, surname)]
        return found[: -len(last)] if said[-len(last) :] == last else found
    rest = [word for word in words if word.start > surname[-1].start]
    return _introduced(rest, lists, lists.words.name_is)


def _introduced(words: Sequence[Word], lists: Lexicon, phrases: Phrases) -> Sequence[Word]:
    said = [word.norm for word in words]
    for at in range(len(words)):
        length = phrases.match(said, at)
        if length:
            found = _leading_name(words[at + length :], lists)
            if found:
                return found
    return ()


def _bare(words: Sequence[Word], lists: Lexicon) -> Sequence[Word]:
    """The longest piece between punctuation that may be a name, unless a sentence comes first."""
    best: Sequence[Word] = ()
    for piece in _pieces(words, lists):
        said = [word.norm for word in piece]
        at = 0
        while at < len(piece):
            skipped = max(
                lists.words.fillers.match(said, at), lists.words.small_talk.match(said, at)
            )
            if not skipped:
                break
            at += skipped
        found = _leading_name(piece[at:], lists)
        if len(piece) - at - len(found) > _WORDS_AFTER_NAME_MAX:
            break
        best = max(best, found, key=len)
    return best


def _pieces(words: Sequence[Word], lists: Lexicon) -> Iterator[Sequence[Word]]:
    begin = 0
    for at in range(1, len(words)):
        if _separated(words[at - 1], words[at], lists):
            yield words[begin:at]
            begin = at
    yield words[begin:]


def _leading_name(words: Sequence[Word], lists: Lexicon) -> Sequence[Word]:
    """The words from the first on that may be one name; letters that spell it out are none."""
    end = 0
    while end < min(len(words), NAME_WORDS_MAX):
        if end and _separated(words[end - 1], words[end], lists):
            break
        if not _may_name(words[end].norm, lists, first=end == 0):
            break
        end += 1
    return words[:end] if any(len(word.norm) > 1 for word in words[:end]) else ()


def _may_name(norm: str, lists: Lexicon, *, first: bool) -> bool:
    _, number = lists.numbers.match([norm])
    if number is not None and (first or number.kind is not Kind.ZERO):  # "Sandra Oh" is a name
        return False
    unprefixed = norm.removeprefix(lists.numbers.and_prefix) or norm
    return not (norm[0].isdecimal() or lists.words.not_names.cover([unprefixed]))


def _separated(before: Word, word: Word, lists: Lexicon) -> bool:
    """Whether punctuation stands between two words; the full stop of "Dr." or "J." is none."""
    title = before.end - before.start == 1 or lists.words.titles.cover([before.norm])
    return word.breaks or ("." in word.gap and not title)


def _capitalised(found: str) -> str:
    """Speech-to-text may write a name in lower case throughout; a name that it wrote stays."""
    if not found.islower():
        return found
    return "".join(
        char.upper() if index == 0 or found[index - 1] in " -" else char
        for index, char in enumerate(found)
    )


def _nominative(found: str, lists: Lexicon) -> str:
    """Speech-to-text hears "меня зовут Елены": where no name ends so, the nominative was said."""
    endings = sorted(lists.nominative, key=len, reverse=True)
    if not endings:
        return found
    pattern = rf"(?<=\w)(?:{'|'.join(map(re.escape, endings))})\b"
    return re.sub(pattern, lambda match: lists.nominative[match[0]], found)
