"""The library swaps whole sets, keeps the last good one, and says why when it does."""

import asyncio
from pathlib import Path

import pytest

from healer.errors import ConfigError
from healer.playbook_yaml import (
    PlaybookLibrary,
    PlaybookSet,
    PlaybookSetError,
    Registry,
    find_shipped,
    load_paths,
)
from healer.testing.clock import FakeClock


def named(good: str, name: str, **changes: str) -> str:
    text = good.replace("name: replace-pod", f"name: {name}")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def write(folder: Path, text: str, name: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def folder(tmp_path: Path, good: str) -> Path:
    for name in ("one", "two"):
        write(tmp_path, named(good, name, KubePodCrashLooping=f"Alert{name}"), name)
    return tmp_path


class Following:
    """A library that is being watched under fake time."""

    def __init__(self, library: PlaybookLibrary) -> None:
        self.library = library
        self.clock = FakeClock()
        self.swaps: list[PlaybookSet] = []

    async def look(self) -> bool:
        """One look of the watch, the settling included."""
        task = asyncio.create_task(self.library.refresh(self.clock, self.swaps.append))
        while not task.done():
            self.clock.advance(1.0)
            await asyncio.wait([task], timeout=0.005)
        return task.result()


@pytest.fixture
def following(folder: Path, registry: Registry) -> Following:
    return Following(PlaybookLibrary([folder], registry))


async def test_a_change_swaps_the_whole_set_once(
    following: Following, folder: Path, good: str
) -> None:
    """A changed and a new file come into force together, and an unchanged set is not swapped."""
    before = following.library.digest
    assert not await following.look()
    write(folder, named(good, "one", approve="observe"), "one")
    write(folder, named(good, "three", KubePodCrashLooping="Three"), "three")
    assert following.library.digest == before
    assert await following.look()
    assert [p.name for p in following.library.current()] == ["one", "three", "two"]
    assert [p.mode for p in following.library.current()] == ["observe", "approve", "approve"]
    assert following.library.digest != before
    assert [swap.digest for swap in following.swaps] == [following.library.digest]
    assert not await following.look()


async def test_one_faulty_file_keeps_the_whole_last_good_set(
    following: Following, folder: Path, good: str
) -> None:
    """A good change beside a faulty one is not taken either; the mended set is."""
    before = following.library.current()
    write(folder, named(good, "one", approve="observe"), "one")
    broken = write(folder, named(good, "two", approve="sometimes"), "two")
    assert not await following.look()
    assert following.library.current() == before
    assert isinstance(following.library.error, PlaybookSetError)
    assert str(following.library.error).startswith(f"{broken}:7:9: ")
    assert following.swaps == []
    write(folder, named(good, "two"), "two")
    assert await following.look()
    assert following.library.error is None
    assert following.library.current()[0].mode == "observe"


async def test_going_back_to_the_old_text_clears_the_error(
    following: Following, folder: Path
) -> None:
    """After a faulty text is taken back nothing is swapped and no error is left."""
    file = folder / "one.yaml"
    text = file.read_text()
    file.write_text("nonsense")
    await following.look()
    assert following.library.error is not None
    file.write_text(text)
    assert not await following.look()
    assert following.library.error is None
    assert following.swaps == []


async def test_a_folder_that_goes_away_keeps_the_last_good_set(
    following: Following, folder: Path
) -> None:
    """A folder that cannot be found is an error, not an empty set, until it is back."""
    folder.rename(folder.with_name("away"))
    assert not await following.look()
    assert len(following.library.current()) == 2
    assert "there is no such file or folder" in str(following.library.error)
    folder.with_name("away").rename(folder)
    await following.look()
    assert following.library.error is None


async def test_a_file_that_is_still_being_written_is_not_taken(
    following: Following, folder: Path, good: str
) -> None:
    """A text that reads differently a moment later is left for the next look."""
    half = named(good, "one", approve="observe")
    write(folder, half, "one")
    task = asyncio.create_task(following.library.refresh(following.clock, following.swaps.append))
    while not following.clock._sleepers:
        await asyncio.wait([task], timeout=0.005)
    write(folder, half.replace("15m", "30m"), "one")
    following.clock.advance(1.0)
    assert not await task
    assert following.swaps == []
    assert following.library.current()[0].mode == "approve"
    assert await following.look()
    assert following.library.current()[0].guards.cooldown_seconds == 1800


async def test_the_watch_looks_again_and_again(
    following: Following, folder: Path, good: str
) -> None:
    """The watch finds a change without being told."""
    watch = asyncio.create_task(
        following.library.watch(following.clock, following.swaps.append, every=5.0)
    )
    write(folder, named(good, "one", approve="observe"), "one")
    while not following.swaps:
        following.clock.advance(1.0)
        await asyncio.wait([watch], timeout=0.005)
    assert following.library.current()[0].mode == "observe"
    watch.cancel()
    await asyncio.wait([watch])


def mount(volume: Path, version: str, texts: dict[str, str]) -> None:
    """Write a ConfigMap volume as the kubelet does: a folder, a link, links to its files."""
    inside = volume / f"..{version}"
    inside.mkdir()
    for name, text in texts.items():
        (inside / name).write_text(text)
        link = volume / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    (volume / "..data_tmp").symlink_to(inside.name)
    (volume / "..data_tmp").rename(volume / "..data")


async def test_a_config_map_mount_is_followed(
    tmp_path: Path, good: str, registry: Registry
) -> None:
    """Each file of a ConfigMap volume is read once, and a swapped `..data` link is noticed."""
    mount(tmp_path, "2026_1", {"one.yaml": named(good, "one")})
    following = Following(PlaybookLibrary([tmp_path], registry))
    assert [p.source for p in following.library.current()] == [str(tmp_path / "one.yaml")]
    mount(tmp_path, "2026_2", {"one.yaml": named(good, "one", approve="auto")})
    assert await following.look()
    assert following.library.current()[0].mode == "auto"


def test_a_faulty_set_does_not_start(folder: Path, registry: Registry) -> None:
    """Every fault of every file is told when the library is made, in order of file and line."""
    (folder / "one.yaml").write_text("a: b\n")
    (folder / "zero.yaml").write_text("c: d\n")
    with pytest.raises(PlaybookSetError) as caught:
        PlaybookLibrary([folder], registry)
    files = [Path(error.path).name for error in caught.value.errors]
    assert set(files) == {"one.yaml", "zero.yaml"}
    assert files == sorted(files)


def test_two_files_with_one_name_are_refused(tmp_path: Path, good: str, registry: Registry) -> None:
    """A name that stands in two folders is a fault in the second file."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write(tmp_path / place, good, "replace-pod")
    with pytest.raises(PlaybookSetError) as caught:
        load_paths([tmp_path / "a", tmp_path / "b"], registry)
    second = tmp_path / "b" / "replace-pod.yaml"
    assert str(caught.value).startswith(f"{second}:4:9: 'replace-pod' is the name of")


def test_a_tie_is_warned_of(tmp_path: Path, good: str, registry: Registry) -> None:
    """Two playbooks with the same matchers and priority load with a warning that names both."""
    write(tmp_path, named(good, "one"), "one")
    write(tmp_path, named(good, "two"), "two")
    (warning,) = load_paths([tmp_path], registry).warnings
    assert "two matches the same alerts as one with the same priority 50" in warning
    write(tmp_path, named(good, "two", mode="priority: 60\n  mode"), "two")
    assert load_paths([tmp_path], registry).warnings == ()


def test_a_path_that_is_not_there_is_refused(tmp_path: Path, registry: Registry) -> None:
    """A path that does not exist is an error and not an empty set."""
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        PlaybookLibrary([tmp_path / "nowhere"], registry)


def test_a_file_that_cannot_be_read_is_refused(folder: Path, registry: Registry) -> None:
    """A file whose bytes the system does not give is an error and not left out."""
    unreadable = Path("/proc/self/mem")  # address 0 of any process gives EIO, even to root
    with pytest.raises(ConfigError, match="/proc/self/mem: cannot be read"):
        PlaybookLibrary([folder, unreadable], registry)
    with pytest.raises(PlaybookSetError, match="/proc/self/mem:1:1: cannot be read"):
        load_paths([folder, unreadable], registry)


def test_the_shipped_playbooks_are_found() -> None:
    """Without a wheel the repository's own folder is the shipped one."""
    assert find_shipped().name in {"playbooks", "_playbooks"}
    assert find_shipped().is_dir()
