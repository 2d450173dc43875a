"""Master keys from files, what they wrap, and what is remembered of a look."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from messaging.keys import UnusableKey
from messaging.subject_keys import SubjectKey, can_name, new_key_id
from messaging.subjects import master
from messaging.subjects.master import DamagedKey, MasterKey, Masters, UnknownMaster, Wrapped
from messaging.subjects.recent import Recent

OLD = MasterKey("old", bytes(range(32)))
ADA = SubjectKey("A" * 22, bytes(range(100, 132)))


def test_a_wrapped_key_opens_where_it_belongs_only() -> None:
    """Not as another person's, not under another id, not with a bit changed, not with another key of that name."""
    masters = Masters([OLD], "old")
    wrapped = masters.wrap(ADA, "ada")

    assert (wrapped.id, wrapped.subject, wrapped.master, len(wrapped.text)) == (ADA.id, "ada", "old", 80)
    assert masters.unwrap(wrapped) == ADA
    changed = ("B" if wrapped.text[40] == "A" else "A").join((wrapped.text[:40], wrapped.text[41:]))
    for each in (
        Wrapped(ADA.id, "bob", wrapped.text, "old"),
        Wrapped("B" * 22, "ada", wrapped.text, "old"),
        Wrapped(ADA.id, "ada", changed, "old"),
        Wrapped(ADA.id, "ada", wrapped.text[:-4], "old"),
        Wrapped(ADA.id, "ada", "", "old"),
        Wrapped(ADA.id, "ada", "ä" * 80, "old"),
    ):
        with pytest.raises(DamagedKey, match=each.id):
            masters.unwrap(each)
    with pytest.raises(DamagedKey):
        Masters([MasterKey("old", bytes(32))], "old").unwrap(wrapped)
    with pytest.raises(UnknownMaster, match="'old' is not here"):
        Masters([MasterKey("new", OLD.key)], "new").unwrap(wrapped)
    assert masters.wrap(ADA, "ada").text != wrapped.text


def test_the_id_of_a_key_can_be_given_to_a_command() -> None:
    """It never begins with "-", as an option does, whatever chance says; every random byte counts."""
    assert new_key_id(lambda count: b"\xff" * count) == "f" + "_" * 20 + "w"
    assert new_key_id(lambda count: b"\xfb" * count) == "e_v7-_v7-_v7-_v7-_v7-w"
    assert new_key_id(bytes) == "A" * 22
    firsts = {new_key_id(bytes((first,)).__mul__)[0] for first in range(256)}
    assert firsts == {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"}


def test_a_key_is_wrapped_as_the_documentation_says() -> None:
    """A wrapped key of an earlier version opens: 12 bytes of nonce, AES-256-GCM over the key with id and person."""
    about = b"\0\0\0\x14amends-subject-key-1" + b"\0\0\0\x16" + b"A" * 22 + b"\0\0\0\x03ada"
    nonce = bytes(range(12))
    text = nonce + AESGCM(OLD.key).encrypt(nonce, ADA.key, about)
    kept = Wrapped(ADA.id, "ada", urlsafe_b64encode(text).decode(), "old")
    assert Masters([OLD], "old").unwrap(kept) == ADA


def _write(folder: Path, **files: Mapping[str, object] | str) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


GOOD = {"kty": "oct", "kid": "old", "alg": "A256GCM", "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}


def test_master_keys_come_from_a_folder_or_a_file(tmp_path: Path) -> None:
    """One alone wraps by itself; of several one is named."""
    folder = _write(tmp_path, old=GOOD)
    wrapped = Masters([OLD], "old").wrap(ADA, "ada")
    for path in (folder, folder / "old.json"):
        assert master.read(path, None).unwrap(wrapped) == ADA
    new = master.new("new")
    _write(folder, new=master.as_json(new))
    both = master.read(folder, "new")
    assert (both.current, sorted(both.ids)) == ("new", ["new", "old"])
    assert both.unwrap(wrapped) == ADA
    assert both.wrap(ADA, "ada").master == "new"


@pytest.mark.parametrize(
    ("files", "current", "words"),
    [
        ({}, None, "holds no master keys (*.json); make one with `amends subjects master new`"),
        ({"old": GOOD, "new": {**GOOD, "kid": "new"}}, None, "say in AMENDS_MASTER_KEY_ID which wraps"),
        ({"old": GOOD}, "new", "AMENDS_MASTER_KEY_ID=new: "),
        ({"old": GOOD, "again": GOOD}, "old", "there are two keys of the id 'old'"),
        ({"old": "old"}, "old", "is no JSON; give what `amends subjects master new` has written"),
        ({"old": {**GOOD, "kty": "OKP"}}, "old", 'is no master key ("kty": "oct")'),
        ({"old": {**GOOD, "k": "AAEC"}}, "old", "its k is not 32 bytes of base64url; make a key with `amends subjects"),
        ({"old": {**GOOD, "kid": ""}}, "old", "its kid is missing"),
    ],
)
def test_what_is_no_master_key_is_told_and_not_shown(
    tmp_path: Path, files: Mapping[str, Mapping[str, object] | str], current: str | None, words: str
) -> None:
    """Which file, what is wrong, how to mend it; never the key."""
    with pytest.raises(UnusableKey) as told:
        master.read(_write(tmp_path, **files), current)
    assert words in str(told.value)
    assert str(tmp_path) in str(told.value)
    assert str(GOOD["k"]) not in str(told.value)


def test_new_master_keys_differ_and_do_not_show() -> None:
    """Each has an id and bytes of its own; a name that no file could bear is refused."""
    one, other = master.new(), master.new()
    assert (len(one.key), one.id == other.id, one.key == other.key) == (32, False, False)
    assert repr(one) == f"MasterKey(id='{one.id}')"
    with pytest.raises(UnusableKey, match="cannot be a key's id"):
        master.new("../old")


def test_what_is_remembered_is_bounded_in_time_and_number() -> None:
    """Forgotten ten seconds after it was true; the oldest go first."""
    recent = Recent[int](10.0, most=3)
    recent.keep([("a", 1), ("b", 2)], at=100.0)
    recent.keep([("a", 3)], at=105.0)
    assert recent.of(["a", "b", "c"], 109.9) == {"a": 3, "b": 2}
    assert recent.of(["a", "b"], 110.0) == {"a": 3}
    recent.keep([("c", 4), ("d", 5)], at=110.0)
    assert recent.of("abcd", 110.0) == {"a": 3, "c": 4, "d": 5}
    recent.keep([("e", 6)], at=111.0)
    assert (recent.of("abcde", 111.0), len(recent)) == ({"c": 4, "d": 5, "e": 6}, 3)
    recent.keep([("f", 7)], at=130.0)
    assert len(recent) == 1


def test_what_can_name_a_person_is_what_a_database_stores() -> None:
    """Whoever seals, keeps keys or erases asks the same: neither nothing nor too much, nor what PostgreSQL refuses."""
    assert can_name("a" * 200)
    assert not [each for each in ("", "a" * 201, "a\0b", "a\ud800b") if can_name(each)]
