"""Keys of subjects in memory: for tests, and to see what erasing does. What they have sealed ends with the process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from secrets import token_bytes

from messaging.subject_keys import KEY_BYTES, KeysUnavailable, SubjectKey, new_key_id


class MemoryKeys:
    """A `messaging.subject_keys.Keys`. `away` says whether it answers, `looks` how often it was asked."""

    def __init__(
        self,
        *,
        random: Callable[[int], bytes] = token_bytes,
        name: Callable[[], str] = new_key_id,
    ) -> None:
        self._random = random
        self._name = name
        self._of: dict[str, SubjectKey | None] = {}
        self._erased: set[str] = set()
        self.away = False
        self.looks = 0

    async def ensure(self, subjects: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """The key of each subject, made where there is none; None for one that is erased."""
        self._look()
        for subject in sorted(subjects):
            if subject not in self._of:
                self._of[subject] = SubjectKey(self._name(), self._random(KEY_BYTES))
        return {subject: self._of[subject] for subject in subjects}

    async def opened(self, ids: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """The keys of these ids; None for one that is erased."""
        self._look()
        known = {key.id: key for key in self._of.values() if key is not None}
        return {each: known.get(each) for each in ids if each in known or each in self._erased}

    def erase(self, subject: str) -> None:
        """Forget a subject's key for ever; nobody makes another."""
        key = self._of.get(subject)
        if key is not None:
            self._erased.add(key.id)
        self._of[subject] = None

    def _look(self) -> None:
        self.looks += 1
        if self.away:
            raise KeysUnavailable("the keys of subjects are away")
